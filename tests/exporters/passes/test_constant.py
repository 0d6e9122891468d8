"""The shapes of Reshape nodes become constants."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.passes import clean, constant
from exporters.passes import graph as making
from exporters.passes.graph import node
from tests.exporters.small_graphs import finish, model, normal, operators, run


def reshaped(first: tuple[int, int]) -> ir.Model:
    """Reshape x to batch × sequence × 2 heads × 3 by a computed shape; ``first``: batch axis."""
    made, (x,) = model({"x": (["batch", "sequence", 6], ir.DataType.FLOAT)})
    batch = node("Shape", [x], start=first[0], end=first[1])
    sequence = node("Shape", [x], start=1, end=2)
    sizes = [making.constant(made, f"size.{n}", np.array([n])) for n in (2, 3)]
    target = node("Concat", [batch.outputs[0], sequence.outputs[0], *sizes], axis=0)
    layer = node("Reshape", [x, target.outputs[0]])
    return finish(made, [batch, sequence, target, layer])


def test_the_computed_shape_becomes_one_that_holds_for_every_size() -> None:
    graph = reshaped((0, 1))
    assert constant.apply(graph) == 1
    clean.apply(graph)
    assert operators(graph) == ["Reshape"]
    for batch, sequence in ((1, 1), (2, 5)):
        given = normal(batch, sequence, 6)
        np.testing.assert_array_equal(run(graph, x=given), given.reshape(batch, sequence, 2, 3))


def test_axes_that_change_their_places_are_left_computed() -> None:
    assert constant.apply(reshaped((1, 2))) == 0
