"""Layers as pairs of quantizers, checked in ONNX Runtime against torch's own rounding."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from rarefy.exporters import fusion
from rarefy.exporters.passes import integer_matmul, qdq
from rarefy.exporters.passes.graph import constant, node
from rarefy.pipeline.model.quantization.plan import LinearPlan, Plan
from rarefy.stages.quantization import ranges, sensitivity
from tests.exporters.graphs import exported
from tests.exporters.small_graphs import finish, normal, run
from tests.exporters.small_graphs import model as small

PLAN = Plan(mode="static", linears={"m": LinearPlan(precision="int8", low=-1.5, high=3.0)})


def test_layers_that_read_the_same_value_share_its_quantizer(rows):
    graph, _ = exported("Bert", rows)
    modules = [node.metadata_props.get("module") for node in graph.graph]
    layer = LinearPlan(precision="int8", low=-1.0, high=1.0)
    plan = Plan(mode="static", linears={name: layer for name in modules if name})
    assert qdq.apply(graph, plan) == 2 * 6 + 2
    # Per layer: one shared by query, key and value; one each for the three other products.
    # Then the pooler and the classifier.
    assert fusion.histogram(graph)["QuantizeLinear"] == 2 * 4 + 2
    assert fusion.histogram(graph)["DequantizeLinear"] == 2 * 4 + 2 + 2 * 6 + 2
    fusion.check_integer(graph, plan.integer_modules)


@pytest.mark.parametrize("symmetric", [False, True])
def test_inputs_and_weights_are_rounded_as_torch_rounds_them(symmetric):
    made, (x,) = small({"x": (["rows", 16], ir.DataType.FLOAT)})
    weight = normal(16, 5)
    product = node("MatMul", [x, constant(made, "w", weight)], like=x)
    product.metadata_props["module"] = "m"
    graph = finish(made, [product])
    assert qdq.apply(graph, PLAN, symmetric=symmetric) == 1
    values = np.random.default_rng(2).uniform(-4, 4, (7, 16)).astype(np.float32)
    found = run(graph, x=values)
    scale, zero, low, high = 4.5 / 255, 85, 0, 255
    if symmetric:
        scale, zero, low, high = 3.0 / 127, 0, -128, 127
    rounded = torch.fake_quantize_per_tensor_affine(
        torch.from_numpy(values), scale, zero, low, high
    )
    numbers, scales = integer_matmul.quantize_weight(weight, "avx2")
    np.testing.assert_allclose(found, rounded.numpy() @ (numbers * scales), atol=1e-4)


def test_a_range_that_is_symmetric_already_is_rounded_as_quantize_simulates_it():
    """What ``quantize`` measures for TensorRT is what TensorRT gets."""
    low, high = ranges.widened(ranges.Range(-1.5, 3.0))
    layer = LinearPlan(precision="int8", low=low, high=high)
    made, (x,) = small({"x": (["rows", 16], ir.DataType.FLOAT)})
    product = node("MatMul", [x, constant(made, "w", np.eye(16, dtype=np.float32))], like=x)
    product.metadata_props["module"] = "m"
    graph = finish(made, [product])
    qdq.apply(graph, Plan(mode="static", linears={"m": layer}), symmetric=True)
    values = np.random.default_rng(2).uniform(-4, 4, (7, 16)).astype(np.float32)
    simulated = sensitivity.rounded_inputs(torch.from_numpy(values), layer).numpy()
    np.testing.assert_allclose(run(graph, x=values), simulated, atol=1e-5)
    assert simulated.min() == pytest.approx(-3.0 * 128 / 127)


def test_a_constant_is_multiplied_as_it_is_and_only_its_weight_is_rounded():
    made, (x,) = small({"x": (["rows", 5], ir.DataType.FLOAT)})
    product = node(
        "MatMul",
        [constant(made, "held", normal(3, 16)), constant(made, "w", normal(16, 5))],
        like=x,
    )
    product.metadata_props["module"] = "m"
    graph = finish(made, [product])
    assert qdq.apply(graph, PLAN) == 1
    assert fusion.histogram(graph)["QuantizeLinear"] == 0
    assert fusion.histogram(graph)["DequantizeLinear"] == 1
