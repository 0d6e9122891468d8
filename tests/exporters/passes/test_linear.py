"""Every linear layer becomes MatMul and Add."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rarefy.exporters.passes import linear
from rarefy.exporters.passes.graph import array, constant, node
from tests.exporters.small_graphs import finish, model, normal, operators, run


def test_a_gemm_becomes_a_product_by_the_transposed_weight() -> None:
    made, (x,) = model({"x": ([2, 4], ir.DataType.FLOAT)})
    weight, bias = normal(3, 4), normal(3, seed=1)
    held = [constant(made, "w", weight), constant(made, "b", bias)]
    layer = node("Gemm", [x, *held], transB=1)
    layer.metadata_props["module"] = "body.dense"
    graph = finish(made, [layer])
    assert linear.apply(graph) == 1
    assert operators(graph) == ["MatMul", "Add"]
    product = graph.graph[0]
    assert product.metadata_props["module"] == "body.dense"
    assert product.inputs[1].name == "body.dense.weight.T"
    np.testing.assert_array_equal(array(product.inputs[1]), weight.T)
    given = normal(2, 4, seed=2)
    np.testing.assert_allclose(run(graph, x=given), given @ weight.T + bias, rtol=1e-5)


def test_a_product_that_is_no_layer_is_left_alone() -> None:
    made, (x,) = model({"x": ([2, 2], ir.DataType.FLOAT)})
    graph = finish(made, [node("MatMul", [x, x])])
    assert linear.apply(graph) == 0
