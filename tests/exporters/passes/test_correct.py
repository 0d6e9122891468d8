"""Corrections go into the bias, or into a new one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from exporters.passes import correct, integer_matmul
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
