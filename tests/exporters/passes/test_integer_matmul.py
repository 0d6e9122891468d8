"""Integer products, checked against numpy and torch."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from rarefy.exporters import fusion
from rarefy.exporters.passes import clean, integer_matmul
from rarefy.exporters.passes.graph import constant, node
from rarefy.pipeline.model.quantization.plan import LinearPlan, Plan
from tests.exporters.graphs import exported
from tests.exporters.small_graphs import finish, model, normal, operators, run


def test_layers_that_read_the_same_value_share_its_quantizer(rows):
    graph, _ = exported("Bert", rows)
    modules = [node.metadata_props.get("module") for node in graph.graph]
    plan = Plan(linears={name: LinearPlan(precision="int8") for name in modules if name})
    integer_matmul.apply(graph, plan)
    # Per layer: one shared by query, key and value; one each for the three other products.
    # Then the pooler and the classifier.
    assert fusion.histogram(graph)["DynamicQuantizeLinear"] == 2 * 4 + 2
    assert fusion.histogram(graph)["MatMulIntegerToFloat"] == 2 * 6 + 2


def test_weights_are_rounded_to_the_nearest_of_255_steps_a_column():
    weight = np.random.default_rng(0).standard_normal((40, 7)).astype(np.float32)
    numbers, scale_ = integer_matmul.quantize_weight(weight, "vnni")
    assert np.abs(numbers).max(axis=0).tolist() == [127] * 7
    assert (np.abs(numbers * scale_ - weight) <= scale_ / 2 + 1e-7).all()


def test_ranges_become_what_pytorch_makes_of_them():
    """Checked against torch's own affine quantization."""
    for low, high in ((-1.3, 4.2), (0.5, 2.0), (-3.0, -1.0)):
        step, zero = integer_matmul.uint8_range(low, high)
        values = torch.linspace(min(low, 0), max(high, 0), 50)
        reference = torch.quantize_per_tensor(values, float(step), int(zero), torch.quint8)
        assert (reference.dequantize() - values).abs().max() <= step / 2 + 1e-6


def test_an_integer_product_computes_what_its_formula_says(rows):
    """Compare one layer in ONNX Runtime with the same integer sum in numpy."""
    import onnxruntime

    rng = np.random.default_rng(1)
    value = ir.Value(name="x", shape=ir.Shape([3, 16]), type=ir.TensorType(ir.DataType.FLOAT))
    weight, bias = (rng.standard_normal(s).astype(np.float32) for s in ((16, 5), (5,)))
    graph = ir.Graph([value], [], nodes=[], opset_imports={"": 20, "com.microsoft": 1})
    model = ir.Model(graph, ir_version=10)
    from rarefy.exporters.passes.graph import constant, node

    product = node("MatMul", [value, constant(model, "w", weight)])
    product.metadata_props["module"] = "m"
    adding = node("Add", [product.outputs[0], constant(model, "b", bias)])
    adding.outputs[0].name, adding.outputs[0].type = "y", ir.TensorType(ir.DataType.FLOAT)
    graph.extend([product, adding])
    graph.outputs.append(adding.outputs[0])
    plan = Plan(linears={"m": LinearPlan(precision="int8", low=-3.0, high=3.0)})
    assert integer_matmul.apply(model, plan) == 1
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    x = rng.standard_normal((3, 16)).astype(np.float32)
    step, zero = integer_matmul.uint8_range(-3, 3)
    numbers, scales = integer_matmul.quantize_weight(weight, "avx2")
    integers = np.clip(np.rint(x / step) + zero, 0, 255).astype(np.int64) - int(zero)
    want = integers @ numbers.astype(np.int64) * (step * scales) + bias
    np.testing.assert_allclose(session.run(None, {"x": x})[0], want, rtol=1e-5, atol=1e-6)


def test_a_product_of_constants_is_left_to_the_runtime_to_fold(tmp_path):
    """The layer multiplies an input, and a constant with the same int8 weight."""
    import onnxruntime

    from rarefy.exporters.passes.graph import constant, node
    from tests.exporters.small_graphs import finish, normal, run
    from tests.exporters.small_graphs import model as small

    made, (x,) = small({"x": (["rows", 4], ir.DataType.FLOAT)})
    weight = constant(made, "shared.weight.T", normal(4, 4))
    places = node("MatMul", [constant(made, "places", normal(3, 4, seed=1)), weight], like=x)
    product = node("MatMul", [x, weight], like=x)
    for step in (places, product):
        step.metadata_props["module"] = "shared"
    turned = node("Transpose", [places.outputs[0]], perm=[1, 0])
    scores = node("MatMul", [product.outputs[0], turned.outputs[0]])
    graph = finish(made, [places, product, turned, scores])
    given = normal(2, 4, seed=2)
    before = run(graph, x=given)
    assert integer_matmul.apply(graph, Plan(linears={"shared": LinearPlan(precision="int8")})) == 2
    fusion.check_integer(graph, ["shared"])
    assert "shared.weight.T" not in {
        value.name for step in graph.graph for value in step.inputs if value
    }
    np.testing.assert_allclose(run(graph, x=given), before, atol=0.2)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    onnxruntime.InferenceSession(ir.to_proto(graph).SerializeToString(), options)
    left = fusion.histogram(ir.load(tmp_path / "folded.onnx"))
    assert (left["MatMulIntegerToFloat"], left["MatMul"]) == (1, 1)


@pytest.mark.parametrize(("low", "left"), [(0.0, []), (-0.5, ["Relu"])])
def test_a_quantizer_whose_zero_is_its_least_integer_needs_no_relu(low, left):
    """With a range below zero, negative numbers would not be clipped."""
    values, weight = normal(6, 8), normal(8, 4, seed=1)
    made, (x,) = model({"x": ([6, 8], ir.DataType.FLOAT)})
    relu = node("Relu", [x], like=x)
    product = node("MatMul", [relu.outputs[0], constant(made, "w", weight)], like=x)
    product.metadata_props["module"] = "m"
    graph = finish(made, [relu, product])
    layer = LinearPlan(precision="int8", low=low, high=2.0)
    integer_matmul.apply(graph, Plan(linears={"m": layer}))
    clean.apply(graph)
    assert [op for op in operators(graph) if op == "Relu"] == left
    step, zero = integer_matmul.uint8_range(low, 2.0)
    numbers, scales = integer_matmul.quantize_weight(weight, "avx2")
    clipped = np.clip(np.rint(np.maximum(values, 0) / step) + zero, 0, 255) - float(zero)
    np.testing.assert_allclose(run(graph, x=values), clipped @ numbers * step * scales, atol=1e-5)
