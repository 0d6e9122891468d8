"""An exported graph has our names, gives the model's answers, and holds no local paths."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnxscript.rewriter.pattern import RewriteRule

from rarefy.exporters import fusion, parity, trace
from rarefy.pipeline.model.bag_of_tokens import (
    BagOfTokensConfig,
    BagOfTokensForSequenceClassification,
)
from rarefy.pipeline.terms.errors import ModelError
from tests.exporters.conftest import tiny
from tests.exporters.families import classifier
from tests.exporters.graphs import exported
from tests.models import TASK


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Bert", "DistilBert"])
def test_it_answers_as_pytorch_before_any_pass(name, rows):
    graph, expected = exported(name, rows)
    parity.check(TASK, graph, expected, "fp32", "export")
    inputs = [value.name for value in graph.graph.inputs]
    assert inputs == [n for n in trace.INPUTS if name == "Bert" or n != "token_type_ids"]
    assert [output.name for output in graph.graph.outputs] == ["logits"]


def test_every_linear_layer_is_a_product_named_after_its_module(rows):
    graph, _ = exported("Bert", rows)
    linear = {n for n, m in tiny("Bert").named_modules() if type(m).__name__ == "Linear"}
    named = {node.metadata_props.get("module"): node.op_type for node in graph.graph}
    named.pop(None)
    assert set(named) == linear
    assert set(named.values()) == {"MatMul"}


def test_layers_with_equal_weights_are_products_of_their_own():
    model = tiny("Bert")
    first, second = model.bert.encoder.layer
    second.load_state_dict(first.state_dict())
    for layer in (first.attention.self.query, first.attention.output.dense):
        torch.nn.init.zeros_(layer.weight)
    graph = trace.export(model, trace.INPUTS, TASK)
    products = [node for node in graph.graph if "module" in node.metadata_props]
    linear = {n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert {node.metadata_props["module"] for node in products} == linear
    assert len({node.inputs[1].name for node in products}) == len(linear)


def test_no_path_of_this_machine_is_in_it(rows):
    graph, _ = exported("Bert", rows)
    data = ir.to_proto(graph).SerializeToString()
    assert b".py" not in data
    assert trace.__file__.rpartition("/")[0].encode() not in data


@pytest.mark.slow
def test_a_model_has_the_same_graph_in_every_process(monkeypatch, trace_always):
    """ModernBERT's code walks through a set of strings, which each process has in another order."""
    from transformers.models.modernbert import modeling_modernbert

    model = classifier("modernbert", num_hidden_layers=2)
    walks, graphs = [], []

    def walk(names):
        walks.append(sorted(dict.fromkeys(names), reverse=bool(graphs)))
        return walks[-1]

    monkeypatch.setattr(modeling_modernbert, "set", walk, raising=False)
    for _ in range(2):
        graph = trace.export(model, trace.INPUTS, TASK)
        graphs.append(ir.to_proto(graph).SerializeToString())
    assert walks[0] == walks[-1][::-1] != walks[-1]
    assert graphs[0] == graphs[1]


def test_the_exporter_rewrites_in_one_order_and_a_node_stays_after_what_it_reads():
    """A bag of tokens had one of two graphs, of which one could not be cloned: onnxscript 0.6."""
    text = """<ir_version: 10, opset_import: ["": 20]>
        agraph (float[n] x) => (float[n] y, float[n] z) {
            a = Neg (x)
            y = Relu (a)
            b = Abs (x)
            z = Relu (b)
        }"""
    orders = set()
    for _ in range(20):
        model = ir.from_proto(onnx.parser.parse_model(text))
        rule = RewriteRule(
            lambda op, x: (op.Neg(x), op.Abs(x)), lambda op, x: (op.Sin(x), op.Cos(x))
        )
        assert rule.apply_to_model(model) == 1
        orders.add(tuple(node.op_type for node in model.graph))
    assert orders == {("Sin", "Cos", "Relu", "Relu")}


@pytest.mark.slow
def test_gelu_spelled_out_is_one_operator_and_the_model_is_left_as_it_was():
    model = classifier("bert", hidden_act="gelu_python", num_hidden_layers=1)
    before = model.bert.encoder.layer[0].intermediate.intermediate_act_fn.act
    graph = trace.export(model, trace.INPUTS, TASK)
    counts = fusion.histogram(graph)
    assert (counts["Gelu"], counts["Erf"]) == (1, 0)
    assert model.bert.encoder.layer[0].intermediate.intermediate_act_fn.act == before


def test_attention_is_left_as_it_was():
    model = tiny("DistilBert")
    before = model.config._attn_implementation
    model.forward = lambda input_ids, attention_mask: 1 / 0
    with pytest.raises(ModelError, match="cannot be exported"):
        trace.export(model, ("input_ids", "attention_mask"), TASK)
    assert model.config._attn_implementation == before


def test_a_model_without_an_attention_mask_is_refused():
    model = classifier("fnet")
    with pytest.raises(ModelError, match="takes no attention mask"):
        trace.export(model, trace.INPUTS, TASK)


@pytest.mark.slow
def test_a_decoder_without_a_padding_token_is_refused():
    model = classifier("llama", pad_token_id=None, num_hidden_layers=1)
    with pytest.raises(ModelError, match="if no padding token is defined"):
        trace.export(model, trace.INPUTS, TASK)


@pytest.mark.slow
def test_runtimes_find_the_pairs_of_tokens_that_pytorch_finds():
    openvino = pytest.importorskip("openvino")
    torch.manual_seed(0)
    config = BagOfTokensConfig(30_522, hidden_size=8, buckets=4096, intermediate_size=16)
    student = BagOfTokensForSequenceClassification(config).eval()
    torch.nn.init.normal_(student.bag_of_tokens.pairs.weight)
    graph = ir.to_proto(trace.export(student, trace.INPUTS[:2], TASK)).SerializeToString()
    ids = np.random.default_rng(0).integers(0, 30_522, (4, 50))
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    with torch.no_grad():
        expected = student(torch.tensor(ids)).logits
    (logits,) = onnxruntime.InferenceSession(graph).run(None, feed)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(graph), "CPU", exact)
    np.testing.assert_allclose(compiled(feed)["logits"], expected, atol=1e-5)
