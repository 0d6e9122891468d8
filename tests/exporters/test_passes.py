"""Each pass leaves the answers as they were, and does what it is there for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from exporters import fusion, onnx, parity
from exporters.passes import clean, embeddings, first_token, integer_matmul, mask, scale
from pipeline.model.quantization import LinearPlan, Plan
from pipeline.terms.errors import ModelError
from tests.exporters.conftest import tiny

INPUTS = {"Bert": onnx.INPUTS, "Electra": onnx.INPUTS}
PAD = 1  # what RoBERTa and MPNet count positions by


TRACED = {}


def exported(name, rows):
    """Return a graph of its own for each test, and PyTorch's answers; traced once."""
    if name not in TRACED:
        model = tiny(name)
        graph = onnx.export(model, INPUTS.get(name, onnx.INPUTS[:2]))
        names = [value.name for value in graph.graph.inputs]
        TRACED[name] = ir.to_proto(graph), parity.cases(model, rows, names, PAD)
    proto, expected = TRACED[name]
    return ir.from_proto(proto), expected


@pytest.mark.parametrize("name", ["Bert", "Roberta", "DistilBert", "MPNet", "Electra"])
def test_every_architecture_passes_every_pass(name, rows):
    graph, expected = exported(name, rows)
    for rewrite in (mask, scale, first_token):
        assert rewrite.apply(graph), rewrite.__name__
        clean.apply(graph)
        parity.check(graph, expected, "fp32", rewrite.__name__)
    fusion.check_fused(graph)
    assert embeddings.apply(graph) >= 2
    clean.apply(graph)
    modules = [node.metadata_props.get("module") for node in graph.graph]
    names = [module for module in modules if module and "classifier" not in module]
    assert len(names) >= 12
    assert set(names) <= {module for module, _ in tiny(name).named_modules()}
    plan = Plan(linears={module: LinearPlan(precision="int8") for module in names})
    assert integer_matmul.apply(graph, plan) == len(names)
    clean.apply(graph)
    fusion.check_integer(graph, len(names))
    close = parity.check(graph, expected, "int8", "integer_matmul")
    assert close.agreement > 0.9


def test_layers_that_read_the_same_value_share_its_quantizer(rows):
    graph, _ = exported("Bert", rows)
    modules = [node.metadata_props.get("module") for node in graph.graph]
    plan = Plan(linears={name: LinearPlan(precision="int8") for name in modules if name})
    integer_matmul.apply(graph, plan)
    # A layer: query, key and value share one; attention output, intermediate, output: one each.
    # Then the pooler and the classifier.
    assert fusion.histogram(graph)["DynamicQuantizeLinear"] == 2 * 4 + 2
    assert fusion.histogram(graph)["MatMulIntegerToFloat"] == 2 * 6 + 2


def test_the_last_layer_sees_one_token(rows):
    """The feed-forward network of the last layer gets 1 token where the others get all."""
    import onnxruntime

    graph, expected = exported("Bert", rows)
    mask.apply(graph)
    first_token.apply(graph)
    clean.apply(graph)
    gelus = [node.outputs[0] for node in graph.graph if node.op_type == "Gelu"]
    assert len(gelus) == 2
    graph.graph.outputs.extend(gelus)
    session = onnxruntime.InferenceSession(ir.to_proto(graph).SerializeToString())
    feed = {name: np.ones((2, 7), dtype=np.int64) for name in expected[0].feed}
    _, first, last = session.run(None, feed)
    assert first.shape == (2, 7, 64)
    assert last.shape == (2, 1, 64)


def test_a_graph_that_answers_otherwise_is_refused_by_the_name_of_the_pass(rows):
    graph, expected = exported("Bert", rows)
    weight = next(
        value for name, value in graph.graph.initializers.items() if name.endswith("weight.T")
    )

    weight.const_value = ir.tensor(weight.const_value.numpy() * 1.5)
    with pytest.raises(ModelError, match="after the pass sabotage"):
        parity.check(graph, expected, "fp32", "the pass sabotage")


def test_weights_are_rounded_to_the_nearest_of_255_steps_a_column():
    weight = np.random.default_rng(0).standard_normal((40, 7)).astype(np.float32)
    numbers, scale_ = integer_matmul.quantize_weight(weight)
    assert np.abs(numbers).max(axis=0).tolist() == [127] * 7
    assert (np.abs(numbers * scale_ - weight) <= scale_ / 2 + 1e-7).all()
    seven, _ = integer_matmul.quantize_weight(weight, 63)
    assert np.abs(seven).max() == 63


def test_ranges_become_what_pytorch_makes_of_them():
    """Against torch's own affine quantization."""
    for low, high in ((-1.3, 4.2), (0.5, 2.0), (-3.0, -1.0)):
        step, zero = integer_matmul.uint8_range(low, high)
        values = torch.linspace(min(low, 0), max(high, 0), 50)
        reference = torch.quantize_per_tensor(values, float(step), int(zero), torch.quint8)
        assert (reference.dequantize() - values).abs().max() <= step / 2 + 1e-6


def test_an_integer_product_computes_what_its_formula_says(rows):
    """One layer in ONNX Runtime against the same sum in integers, by numpy."""
    import onnxruntime

    rng = np.random.default_rng(1)
    value = ir.Value(name="x", shape=ir.Shape([3, 16]), type=ir.TensorType(ir.DataType.FLOAT))
    weight, bias = (rng.standard_normal(s).astype(np.float32) for s in ((16, 5), (5,)))
    graph = ir.Graph([value], [], nodes=[], opset_imports={"": 20, "com.microsoft": 1})
    model = ir.Model(graph, ir_version=10)
    from exporters.passes.graph import constant, node

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
    numbers, scales = integer_matmul.quantize_weight(weight)
    integers = np.clip(np.rint(x / step) + zero, 0, 255).astype(np.int64) - int(zero)
    want = integers @ numbers.astype(np.int64) * (step * scales) + bias
    np.testing.assert_allclose(session.run(None, {"x": x})[0], want, rtol=1e-5, atol=1e-6)
