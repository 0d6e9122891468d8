"""Corrections go into the bias, or into a new one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from exporters.passes import correct, integer_matmul, scale
from exporters.passes.graph import constant, node
from pipeline.model.quantization import LinearPlan, Plan
from tests.exporters.small_graphs import finish, model, normal, operators, run

CORRECTION = (0.5, -1.0, 0.25)


@pytest.mark.parametrize("biased", [True, False])
def test_a_correction_is_added_to_each_output_at_no_cost(biased):
    made, (x,) = model({"x": (["rows", 4], ir.DataType.FLOAT)})
    product = node("MatMul", [x, constant(made, "w", normal(4, 3))], like=x)
    product.metadata_props["module"] = "m"
    nodes = [product]
    if biased:
        bias = constant(made, "b", normal(3, seed=1))
        nodes.append(node("Add", [bias, product.outputs[0]], like=x))
    graph = finish(made, nodes)
    given = normal(5, 4, seed=2)
    before = run(graph, x=given)
    plan = Plan(linears={"m": LinearPlan(precision="int8", correction=CORRECTION)})
    assert correct.apply(graph, plan) == 1
    np.testing.assert_allclose(run(graph, x=given), before + np.array(CORRECTION), rtol=1e-5)
    integer_matmul.apply(graph, plan)
    assert operators(graph) == ["DynamicQuantizeLinear", "MatMulIntegerToFloat"]


def test_a_layer_without_a_correction_stays():
    made, (x,) = model({"x": (["rows", 4], ir.DataType.FLOAT)})
    product = node("MatMul", [x, constant(made, "w", normal(4, 3))], like=x)
    product.metadata_props["module"] = "m"
    graph = finish(made, [product])
    assert correct.apply(graph, Plan(linears={"m": LinearPlan(precision="int8")})) == 0
    assert operators(graph) == ["MatMul"]


def test_the_correction_of_a_query_is_scaled_like_its_bias():
    made, (x, key) = model({name: ([3, 4], ir.DataType.FLOAT) for name in ("x", "key")})
    weight, bias, lost = normal(4, 4), normal(4, seed=1), normal(4, seed=2)
    product = node("MatMul", [x, constant(made, "w", weight)])
    product.metadata_props["module"] = "query"
    query = node("Add", [product.outputs[0], constant(made, "b", bias)])
    turned = node("Transpose", [key], perm=[1, 0])
    scores = node("MatMul", [query.outputs[0], turned.outputs[0]])
    scaling = node("Mul", [scores.outputs[0], constant(made, "f", np.array(0.25, np.float32))])
    graph = finish(made, [product, query, turned, scores, scaling, node("Tanh", scaling.outputs)])
    assert scale.apply(graph) == 1
    plan = Plan(linears={"query": LinearPlan(precision="int8", correction=tuple(lost.tolist()))})
    assert correct.apply(graph, plan) == 1
    given, keys = normal(3, 4, seed=3), normal(3, 4, seed=4)
    expected = np.tanh(0.25 * (given @ weight + bias + lost) @ keys.T)
    np.testing.assert_allclose(run(graph, x=given, key=keys), expected, rtol=1e-4, atol=1e-5)
