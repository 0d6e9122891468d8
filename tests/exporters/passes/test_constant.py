"""The shapes of Reshape nodes become constants."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rarefy.exporters.passes import clean, constant
from rarefy.exporters.passes import graph as making
from rarefy.exporters.passes.graph import node
from tests.exporters.small_graphs import finish, model, normal, operators, run


def reshaped(first: tuple[int, int], *, joined: bool = False) -> ir.Model:
    """Reshape x to batch × sequence × 2 heads × 3 by a computed shape; ``first``: batch axis.

    ``joined``: the Reshape's input has batch and sequence in one axis.
    """
    made, (x,) = model({"x": (["batch", "sequence", 6], ir.DataType.FLOAT)})
    batch = node("Shape", [x], start=first[0], end=first[1])
    sequence = node("Shape", [x], start=1, end=2)
    sizes = [making.constant(made, f"size.{n}", np.array([n])) for n in (2, 3)]
    target = node("Concat", [batch.outputs[0], sequence.outputs[0], *sizes], axis=0)
    steps = [batch, sequence, target]
    if joined:
        steps.append(node("Reshape", [x, making.constant(made, "flat", np.array([-1, 6]))]))
        steps[-1].outputs[0].shape = ir.Shape(["rows", 6])
    source = steps[-1].outputs[0] if joined else x
    layer = node("Reshape", [source, target.outputs[0]])
    layer.outputs[0].shape = ir.Shape(["batch", "sequence", 2, 3])
    return finish(made, [*steps, layer])


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


def test_axes_that_were_joined_are_left_computed() -> None:
    """GPT-2 joins batch and sequence for each linear layer: 0 would keep the wrong axes."""
    graph = reshaped((0, 1), joined=True)
    assert constant.apply(graph) == 0
    given = normal(2, 5, 6)
    np.testing.assert_array_equal(run(graph, x=given), given.reshape(2, 5, 2, 3))
