"""Products with weights of 4 bits, checked against numpy."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from exporters import fusion
from exporters.passes import blockwise_matmul, scale
from exporters.passes.graph import constant, node
from pipeline.model import blockwise
from pipeline.model.blockwise import BLOCK
from pipeline.model.quantization import LinearPlan, Plan
from pipeline.terms.errors import ModelError
from tests.exporters.small_graphs import finish, model, normal, operators, run

PLAN = Plan(linears={"m": LinearPlan(precision="int4")})


def layer(inputs: int, outputs: int, *, bias: bool = True) -> ir.Model:
    made, (x,) = model({"x": (["rows", inputs], ir.DataType.FLOAT)})
    product = node("MatMul", [x, constant(made, "w", normal(inputs, outputs))], like=x)
    product.metadata_props["module"] = "m"
    if not bias:
        return finish(made, [product])
    b = constant(made, "b", normal(outputs, seed=1))
    return finish(made, [product, node("Add", [product.outputs[0], b], like=x)])


def in_int8(values: np.ndarray) -> np.ndarray:
    """Round each block of a row to int8 and back, with the scale of its largest number."""
    rounded = [
        np.rint(block / step) * step
        for block in np.split(values, range(BLOCK, values.shape[1], BLOCK), axis=1)
        for step in [np.abs(block).max(axis=1, keepdims=True) / 127]
    ]
    return np.concatenate(rounded, axis=1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("inputs", [BLOCK, 2 * BLOCK, 3 * BLOCK, BLOCK + 6, 30, 33])
def test_the_runtime_multiplies_what_was_rounded(inputs: int, bias: bool):
    """Whole blocks and a part of one; an even and an odd number of zero points."""
    graph, given = layer(inputs, 5, bias=bias), normal(7, inputs, seed=2)
    made = blockwise.blocks(normal(inputs, 5).T)
    assert blockwise_matmul.apply(graph, PLAN, {"m": made}) == 1
    assert operators(graph) == ["MatMulNBits"]
    wanted = in_int8(given) @ made.values().T + (normal(5, seed=1) if bias else 0)
    np.testing.assert_allclose(run(graph, x=given), wanted, atol=1e-4)


def test_what_was_folded_into_the_weight_is_in_the_steps():
    """The weights of a query are divided by the root of its width before products are rounded."""
    made, (x, key) = model({n: ([3, 32], ir.DataType.FLOAT) for n in ("x", "key")})
    product = node("MatMul", [x, constant(made, "w", normal(32, 32))])
    product.metadata_props["module"] = "m"
    query = node("Add", [product.outputs[0], constant(made, "b", normal(32, seed=1))])
    turned = node("Transpose", [key], perm=[1, 0])
    scores = node("MatMul", [query.outputs[0], turned.outputs[0]])
    scaling = node("Mul", [scores.outputs[0], constant(made, "f", np.array(0.25, np.float32))])
    graph = finish(made, [product, query, turned, scores, scaling, node("Neg", scaling.outputs)])
    given, keys = normal(3, 32, seed=2), normal(3, 32, seed=3)
    assert scale.apply(graph) == 1
    made_of = blockwise.blocks(normal(32, 32).T)
    assert blockwise_matmul.apply(graph, PLAN, {"m": made_of}) == 1
    wanted = -0.25 * (in_int8(given) @ made_of.values().T + normal(32, seed=1)) @ keys.T
    np.testing.assert_allclose(run(graph, x=given, key=keys), wanted, rtol=1e-4, atol=1e-3)


def test_a_layer_of_the_plan_that_is_not_there_is_an_error():
    graph = layer(32, 5)
    with pytest.raises(ModelError, match=r"0 matrix products have weights of 4 bits, .* is m"):
        fusion.check_integer(graph, [], ["m"])
    blockwise_matmul.apply(graph, PLAN, {"m": blockwise.blocks(normal(32, 5).T)})
    fusion.check_integer(graph, [], ["m"])
