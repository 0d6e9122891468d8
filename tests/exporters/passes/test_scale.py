"""The scale of the attention scores is folded into the query's weights."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from rarefy.exporters.passes import scale
from rarefy.exporters.passes.graph import constant, node
from tests.exporters.small_graphs import finish, model, normal, operators, run


@pytest.mark.parametrize(("op", "factor"), [("Mul", 0.25), ("Div", 4.0)])
def test_scores_are_the_same_with_one_node_less(op: str, factor: float) -> None:
    made, (x, key) = model({n: ([3, 4], ir.DataType.FLOAT) for n in ("x", "key")})
    weight, bias = normal(4, 4), normal(4, seed=1)
    product = node("MatMul", [x, constant(made, "w", weight)])
    product.metadata_props["module"] = "query"
    query = node("Add", [product.outputs[0], constant(made, "b", bias)])
    turned = node("Transpose", [key], perm=[1, 0])
    scores = node("MatMul", [query.outputs[0], turned.outputs[0]])
    held = constant(made, "factor", np.array(factor, dtype=np.float32))
    scaling = node(op, [scores.outputs[0], held])
    graph = finish(made, [product, query, turned, scores, scaling, node("Tanh", scaling.outputs)])
    assert scale.apply(graph) == 1
    assert op not in operators(graph)
    given, keys = normal(3, 4, seed=2), normal(3, 4, seed=3)
    expected = np.tanh(0.25 * (given @ weight + bias) @ keys.T)
    np.testing.assert_allclose(run(graph, x=given, key=keys), expected, rtol=1e-4, atol=1e-5)


def test_scores_that_something_else_reads_keep_their_factor() -> None:
    made, (x,) = model({"x": ([3, 3], ir.DataType.FLOAT)})
    product = node("MatMul", [x, constant(made, "w", normal(3, 3))])
    product.metadata_props["module"] = "query"
    query = node("Add", [product.outputs[0], constant(made, "b", normal(3))])
    scores = node("MatMul", [query.outputs[0], x])
    held = constant(made, "factor", np.array(0.5, dtype=np.float32))
    scaled = node("Mul", [scores.outputs[0], held])
    graph = finish(
        made, [product, query, scores, scaled, node("Sub", [scaled.outputs[0], scores.outputs[0]])]
    )
    assert scale.apply(graph) == 0
