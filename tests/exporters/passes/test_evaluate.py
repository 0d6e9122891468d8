"""Values inside a graph are computed without the rest of it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from rarefy.exporters.passes.evaluate import evaluate
from rarefy.exporters.passes.graph import constant, node
from rarefy.pipeline.terms.errors import ModelError
from tests.exporters.small_graphs import finish, model, operators


def test_a_value_in_the_middle_is_computed_for_each_feed_and_the_graph_is_left_alone() -> None:
    made, (x, y) = model({n: (["n"], ir.DataType.INT64) for n in ("x", "y")})
    twice = node("Add", [x, x])
    other = node("Gather", [constant(made, "table", np.arange(3)), y])  # fails on y = 9
    graph = finish(made, [twice, other, node("Mul", [twice.outputs[0], other.outputs[0]])])
    feeds = [{"x": np.array([n]), "y": np.array([9])} for n in (1, 4)]
    answers = evaluate(graph, [twice.outputs[0]], feeds)
    assert [[array.tolist() for array in arrays] for arrays in answers] == [[[2]], [[8]]]
    assert operators(graph) == ["Add", "Gather", "Mul"]
    with pytest.raises(ModelError, match="cannot be computed"):
        evaluate(graph, [other.outputs[0]], feeds)
