"""Weights in 4 bits: what the runtime makes of them, in numbers and in time."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from exporters.passes import clean, integer_matmul, packed
from exporters.passes.graph import constant, node
from pipeline.model import blockwise, quantization
from pipeline.model.blockwise import BLOCK
from pipeline.model.quantization import LinearPlan, Plan
from pipeline.terms.errors import ModelError
from tests.exporters.small_graphs import finish, model, normal, operators, run

PLAN = Plan(linears={"m": LinearPlan(precision="int4")})


def layer(weight: np.ndarray, isa="avx2") -> ir.Model:
    """Return a graph of a linear layer, as an integer product."""
    inputs, outputs = weight.shape
    made, (x,) = model({"x": (["rows", inputs], ir.DataType.FLOAT)})
    product = node("MatMul", [x, constant(made, "w", weight)], like=x)
    product.metadata_props["module"] = "m"
    bias = constant(made, "b", normal(outputs, seed=1))
    graph = finish(made, [product, node("Add", [product.outputs[0], bias], like=x)])
    assert integer_matmul.apply(graph, PLAN, isa) == 1
    return graph


@pytest.mark.parametrize("isa", ["avx2", "vnni"])
@pytest.mark.parametrize("inputs", [BLOCK, 2 * BLOCK, 3 * BLOCK, BLOCK + 6, 30, 33])
def test_the_runtime_multiplies_what_the_formula_says(inputs: int, isa):
    """Whole blocks, and a part of one."""
    made = blockwise.blocks(normal(inputs, 8).T)
    weight = np.ascontiguousarray(made.values().T)
    graph, given = layer(weight, isa), normal(7, inputs, seed=2)
    (held,) = (v for v in graph.graph.initializers.values() if v.dtype == ir.DataType.INT8)
    steps = (made.scales / quantization.weight_scales(weight, isa)[:, None]).astype(np.float32)
    numbers = packed.int8_weight(made, steps)
    # What lies in the middle between two integers may be rounded to either.
    assert np.abs(numbers - held.const_value.numpy()).max() <= 1
    assert (numbers != held.const_value.numpy()).mean() < 0.05
    held.const_value = ir.tensor(numbers.astype(np.int8), name=held.name)
    before = run(graph, x=given)
    assert packed.apply(graph, {"m": made}, isa) == 1
    clean.apply(graph)
    assert ir.DataType.INT8 not in {v.dtype for v in graph.graph.initializers.values() if v.uses()}
    np.testing.assert_array_equal(run(graph, x=given), before)


def test_layers_of_different_sizes_are_packed_in_one_graph():
    made, (x,) = model({"x": (["rows", 70], ir.DataType.FLOAT)})
    sizes, last, steps, weights = [(70, 8), (8, 8), (8, 70), (70, 8)], x, [], {}
    for at, size in enumerate(sizes):
        weights[f"m{at}"] = blockwise.blocks(normal(*size, seed=at).T)
        weight = constant(made, f"w{at}", np.ascontiguousarray(weights[f"m{at}"].values().T))
        steps.append(node("MatMul", [last, weight], like=x))
        steps[-1].metadata_props["module"] = f"m{at}"
        last = steps[-1].outputs[0]
    graph, given = finish(made, steps), normal(3, 70, seed=9)
    exact = run(graph, x=given)
    plan = Plan(linears={name: LinearPlan(precision="int4") for name in weights})
    assert integer_matmul.apply(graph, plan) == packed.apply(graph, weights) == 4
    assert np.corrcoef(run(graph, x=given).ravel(), exact.ravel())[0, 1] > 0.999


def test_a_weight_that_was_multiplied_as_a_whole_has_the_same_integers():
    """The weights of a query are divided by the root of its width: so are the outputs' scales."""
    made = blockwise.blocks(normal(32, 32).T)
    graph, given = layer(np.float32(0.177) * made.values().T), normal(3, 32, seed=2)
    before = run(graph, x=given)
    assert packed.apply(graph, {"m": made}) == 1
    np.testing.assert_allclose(run(graph, x=given), before, atol=0.05)


def test_a_product_of_constants_reads_the_same_weight():
    """As DeBERTa's positions, which are multiplied by the weights of keys and queries."""
    held = blockwise.blocks(normal(4, 4).T)
    made, (x,) = model({"x": (["rows", 4], ir.DataType.FLOAT)})
    weight = constant(made, "w", np.ascontiguousarray(held.values().T))
    places = node("MatMul", [constant(made, "places", normal(3, 4, seed=1)), weight], like=x)
    product = node("MatMul", [x, weight], like=x)
    for step in (places, product):
        step.metadata_props["module"] = "m"
    turned = node("Transpose", [places.outputs[0]], perm=[1, 0])
    scores = node("MatMul", [product.outputs[0], turned.outputs[0]])
    graph, given = finish(made, [places, product, turned, scores]), normal(2, 4, seed=2)
    assert integer_matmul.apply(graph, PLAN) == 2
    before = run(graph, x=given)
    assert packed.apply(graph, {"m": held}) == 1
    clean.apply(graph)
    assert ir.DataType.INT8 not in {v.dtype for v in graph.graph.initializers.values() if v.uses()}
    np.testing.assert_allclose(run(graph, x=given), before, atol=0.3)


def test_a_layer_that_is_used_twice_is_unpacked_once():
    held = blockwise.blocks(normal(4, 4).T)
    made, (x,) = model({"x": (["rows", 4], ir.DataType.FLOAT)})
    weight = constant(made, "w", np.ascontiguousarray(held.values().T))
    first = node("MatMul", [x, weight], like=x)
    second = node("MatMul", [first.outputs[0], weight], like=x)
    for step in (first, second):
        step.metadata_props["module"] = "m"
    graph, given = finish(made, [first, second]), normal(2, 4, seed=2)
    assert integer_matmul.apply(graph, PLAN) == 2
    before = run(graph, x=given)
    assert packed.apply(graph, {"m": held}) == 1
    assert operators(graph).count("Round") == 1
    np.testing.assert_allclose(run(graph, x=given), before, atol=0.3)


def test_weights_of_another_network_are_an_error():
    graph = layer(normal(32, 4))
    with pytest.raises(ModelError, match="the weights of m in int4 are of another network"):
        packed.apply(graph, {"m": blockwise.blocks(normal(32, 4, seed=9).T)})


def test_layers_that_are_not_in_the_plan_stay():
    assert packed.apply(layer(normal(32, 4)), {}) == 0


def test_two_outputs_share_a_byte():
    assert packed.takes_int4(8)
    assert not packed.takes_int4(7)
