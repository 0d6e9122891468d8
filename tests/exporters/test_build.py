"""Bundles of real weights run elsewhere, also with uneven shapes; invalid plans are refused."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from rarefy.exporters import saving
from rarefy.exporters.build import BuildInfo, build, card_facts
from rarefy.exporters.parity import Parity
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.quantization import cpu_arithmetic, four_bits
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.model.quantization.plan import LinearPlan, Plan
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.release.predict import Bundle
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.tasks.token_classification.task import TOKEN_CLASSIFICATION
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import ModelError, ProviderError
from rarefy.stages.quantization import bundles
from rarefy.stages.surgery import units as surgery
from tests.exporters.deployments import SPLIT, TASK, TEXTS, copy_with, plan_for
from tests.families import write_family
from tests.models import TASK as TINY
from tests.models import probabilities, sentences

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("task", "windows", "tag"),
    [
        (TINY, False, "text-classification"),
        (replace(TINY, windows=True), True, "text-classification"),
        (TOKEN_CLASSIFICATION.bind(("O", "B-A"), 8, ("text",)), True, "token-classification"),
        (SENTENCE_EMBEDDINGS.bind((), 8, ("text",)), False, "sentence-similarity"),
    ],
)
def test_the_card_is_told_what_becomes_of_long_texts_and_what_the_hub_calls_the_task(
    task, windows, tag
):
    info = BuildInfo(
        precision="fp32", parity=Parity(0.0, 1.0, 1), integer_matmuls=0, size=1,
        operators={}, passes={}, roles={},
        model={"layers": 1, "hidden": 1, "architecture": "A"},
    )  # fmt: skip
    facts = card_facts(info, "cpu", 1, task, SPLIT, samples=False)
    assert (facts["windows"], facts["tag"]) == (windows, tag)


def test_int8_is_a_quarter_of_the_reference_and_agrees_with_it(deployed, minilm, tmp_path):
    info, output = deployed
    reference = build(minilm, tmp_path, task=TASK, split=SPLIT, form="reference")
    assert info.integer_matmuls == 2 * 6 + 1
    assert reference.integer_matmuls == 0
    assert info.size < 0.27 * reference.size
    ours, theirs = (probabilities(path, TEXTS) for path in (output, tmp_path))
    assert np.abs(ours - theirs).max() < 0.1
    model, tokenizer = checkpoint.load(minilm), checkpoint.load_tokenizer(minilm)
    with torch.no_grad():
        inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
        exact = model(**inputs).logits.softmax(-1).numpy()
    np.testing.assert_allclose(theirs, exact, atol=1e-5)


def test_dynamic_int8_answers_as_it_was_validated_however_many_rows_are_asked(deployed):
    """Its ranges are taken over a whole batch, so rows of one length must not share one."""
    _, output = deployed
    texts = [f"{word} film, and {other}." for word in TEXTS[0].split() for other in ("ok", "bad")]
    alone = probabilities(output, texts)
    asked = Bundle(output).predict(texts)
    assert [[*answer.probabilities.values()] for answer in asked] == alone.tolist()
    together = Bundle(output).predict(texts, batch_size=32)
    assert [[*answer.probabilities.values()] for answer in together] != alone.tolist()


def test_a_vocabulary_in_4_bits_is_half_as_large_and_answers_nearly_as_in_float(
    deployed, minilm, tmp_path
):
    info, output = deployed
    plan = plan_for(minilm).model_copy(update={"embeddings": "int4"})
    source, made = copy_with(minilm, plan, tmp_path / "checkpoint"), tmp_path / "bundle"
    made.mkdir()
    small = build(source, made, task=TASK, split=SPLIT, form="deploy")
    vocabulary, width = 30522, 384
    assert info.size - small.size == pytest.approx(vocabulary * width * 0.43, rel=0.05)
    ours, theirs = (probabilities(path, TEXTS) for path in (made, output))
    assert np.abs(ours - theirs).max() < 0.1


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_weights_in_4_bits_are_multiplied_in_8(mode, minilm, tmp_path):
    """What runs is the int8 graph: nodes that unpack are gone when the runtime has loaded it."""
    plan = plan_for(minilm, mode)
    first = next(iter(plan.linears))  # one layer stays in int8
    for name, layer in plan.linears.items():
        if name != first:
            plan.linears[name] = layer.model_copy(update={"precision": "int4"})
    network = checkpoint.load(minilm)
    weights = {
        name: four_bits.blocks(network.get_submodule(name).weight.detach().numpy())
        for name in plan.int4_modules
    }
    source, made = copy_with(minilm, plan, tmp_path / "checkpoint"), tmp_path / "bundle"
    with pytest.raises(ModelError, match=r"its weights are not in int4\.safetensors"):
        build(source, made, task=TASK, split=SPLIT, form="deploy")
    four_bits.write(weights, source)
    made.mkdir()
    small = build(source, made, task=TASK, split=SPLIT, form="deploy")
    assert small.passes["packed"] == len(weights) == 12
    assert small.integer_matmuls == 13
    # The same network with these weights in float, exported in int8.
    four_bits.put(weights, network)
    rounded = tmp_path / "rounded"
    checkpoint.save(network, checkpoint.load_tokenizer(minilm), rounded)
    plain = copy_with(rounded, plan_for(minilm, mode), tmp_path / "plain")
    (tmp_path / "int8").mkdir()
    large = build(plain, tmp_path / "int8", task=TASK, split=SPLIT, form="deploy")
    ours, theirs = (probabilities(path, TEXTS) for path in (made, tmp_path / "int8"))
    np.testing.assert_allclose(ours, theirs, atol=0.01)  # halves are rounded to either side
    size = sum(each.codes.size for each in weights.values())
    # Four bits, and for 64 neighbours a scale in 32 and a zero point in 8.
    assert large.size - small.size == pytest.approx(size * (1 - 4.625 / 8), rel=0.05)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    onnxruntime.InferenceSession(made / "model.onnx", options)
    loaded, wanted = (
        Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)
        for path in (tmp_path / "loaded.onnx", tmp_path / "int8" / "model.onnx")
    )
    assert loaded["MatMulIntegerToFloat"] == wanted["MatMulIntegerToFloat"]
    assert loaded["Round"] == 0
    assert loaded.total() <= wanted.total()
    ruined = {name: four_bits.blocks(0 * each.values()) for name, each in weights.items()}
    four_bits.write(ruined, source)
    with pytest.raises(ModelError, match="after rounding weights to 4 bits"):
        build(source, made, task=TASK, split=SPLIT, form="deploy")


def test_a_plan_that_leaves_all_in_float_gives_an_fp32_bundle(minilm, tmp_path):
    floats = {name: LinearPlan(precision="float") for name in plan_for(minilm).linears}
    source = copy_with(minilm, Plan(embeddings="float", linears=floats), tmp_path / "checkpoint")
    info = build(source, tmp_path, task=TASK, split=SPLIT, form="deploy", isa="vnni")
    assert info.precision == "fp32"
    assert "isa" not in json.loads((tmp_path / "signature.json").read_text())


def test_static_ranges_need_no_look_at_the_inputs(minilm, tmp_path):
    source = copy_with(minilm, plan_for(minilm, "static"), tmp_path / "checkpoint")
    (tmp_path / "bundle").mkdir()
    info = build(source, tmp_path / "bundle", task=TASK, split=SPLIT, form="deploy")
    assert info.integer_matmuls == 13
    assert "DynamicQuantizeLinear" not in info.operators
    assert not BundleModel(tmp_path / "bundle").rows_interact
    # Four per layer; a fifth in the last layer, for the query's one token; one for the pooler.
    assert info.operators["QuantizeLinear"] == 4 + 5 + 1


@pytest.fixture(scope="module")
def portable(minilm, tmp_path_factory):
    """A static int8 bundle whose products every runtime knows."""
    folder = tmp_path_factory.mktemp("portable")
    source = copy_with(minilm, plan_for(minilm, "static"), folder / "checkpoint")
    (folder / "bundle").mkdir()
    info = build(source, folder / "bundle", task=TASK, split=SPLIT, form="deploy", products="qdq")
    return info, folder / "bundle", source


def test_portable_int8_has_no_operators_of_onnx_runtimes_own(portable, deployed, minilm, tmp_path):
    info, output, _ = portable
    graph = onnx.load(output / "model.onnx")
    assert {opset.domain for opset in graph.opset_import} <= {""}
    assert {node.domain for node in graph.graph.node} == {""}
    assert info.integer_matmuls == deployed[0].integer_matmuls == 13
    assert info.size < 1.05 * deployed[0].size
    build(minilm, tmp_path, task=TASK, split=SPLIT, form="reference")
    ours, theirs = (probabilities(path, TEXTS) for path in (output, tmp_path))
    assert np.abs(ours - theirs).max() < 0.1
    assert not np.array_equal(ours, theirs)


def test_portable_int8_is_computed_in_integers_and_its_sums_stay_apart(portable, tmp_path):
    """At the level that the bundle asks for, as ``benchmarks`` and users run it."""
    _, output, _ = portable
    stored = json.loads((output / "session_options.json").read_text())
    assert stored["graph_optimization_level"] == "extended"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(output / "model.onnx", options, providers=["CPUExecutionProvider"])
    made = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert made["MatMulIntegerToFloat"] == 12
    assert made["FusedGemm"] == 1, "the pooler's, of one token, which ONNX Runtime fuses in float"
    assert made["SkipLayerNormalization"] == 0
    assert made["LayerNormalization"] == 5  # two of each layer, and that of the embeddings


@pytest.mark.parametrize("products", ["fused", "qdq"])
def test_the_graph_that_ships_is_checked_at_the_level_at_which_it_runs(
    products, portable, tmp_path, monkeypatch
):
    """Pairs of quantizers are floats at a lower one, so integers would not have been checked."""
    levels, real = [], saving.session

    def noted(graph, options):
        levels.append(options.graph_optimization_level.name.removeprefix("ORT_ENABLE_").lower())
        return real(graph, options)

    monkeypatch.setattr(saving, "session", noted)
    build(portable[2], tmp_path, task=TASK, split=SPLIT, form="deploy", products=products)
    stored = json.loads((tmp_path / "session_options.json").read_text())
    assert levels[-1] == stored["graph_optimization_level"]
    assert set(levels[:-1]) == {"basic"}, "a pass is checked as it left the graph"


def test_openvino_gives_a_portable_bundles_answers(portable):
    _, output, _ = portable
    openvino = pytest.importorskip("openvino")
    model = BundleModel(output)
    settings = {"INFERENCE_PRECISION_HINT": "f32"}  # else floats are bf16 where the CPU has it
    compiled = openvino.Core().compile_model(output / "model.onnx", "CPU", settings)
    for feed in model.encode(TEXTS):
        (theirs,) = compiled(feed).values()
        np.testing.assert_allclose(theirs, model.run(feed), atol=0.05)


def test_tensorrt_gets_symmetric_ranges(portable, tmp_path):
    """TensorRT takes no zero point but zero; here the graph runs on the CPU."""
    _, _, source = portable
    info = build(
        source, tmp_path, task=TASK, split=SPLIT, form="deploy", target_provider="tensorrt"
    )
    assert info.integer_matmuls == 13
    graph = onnx.load(tmp_path / "model.onnx")
    held = {one.name: onnx.numpy_helper.to_array(one) for one in graph.graph.initializer}
    pairs = [n for n in graph.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    assert all(not held[node.input[2]].any() for node in pairs)
    assert {held[node.input[2]].dtype for node in pairs} == {np.dtype(np.int8)}


def test_a_portable_bundle_needs_ranges_that_are_known(minilm, tmp_path):
    source = copy_with(minilm, plan_for(minilm), tmp_path / "checkpoint")
    for choice in (
        {"products": "qdq"},
        {"target_provider": "tensorrt"},
        {"target_provider": "openvino"},
    ):
        with pytest.raises(ModelError, match=r"write quantize: \{mode: static\}"):
            build(source, tmp_path, task=TASK, split=SPLIT, form="deploy", **choice)


def test_the_same_checkpoint_gives_the_same_bytes(deployed, minilm, tmp_path):
    _, output = deployed
    source = copy_with(minilm, plan_for(minilm), tmp_path / "checkpoint")
    (tmp_path / "bundle").mkdir()
    info = build(source, tmp_path / "bundle", task=TASK, split=SPLIT, form="deploy")
    for name in info.roles:
        assert file_sha256(tmp_path / "bundle" / name) == file_sha256(output / name), name


def test_pruned_and_factorized_shapes_are_exported(minilm, tmp_path):
    """Uneven heads, fewer neurons and a thin layer, as the sidecar restores them."""
    model, tokenizer = checkpoint.load(minilm), checkpoint.load_tokenizer(minilm)
    layer = model.bert.encoder.layer[0]
    attention = layer.attention
    kept = 5 * 32  # five of twelve heads
    for part in (attention.self.query, attention.self.key, attention.self.value):
        part.weight.data, part.bias.data = part.weight.data[:kept], part.bias.data[:kept]
        part.out_features = kept
    attention.output.dense.weight.data = attention.output.dense.weight.data[:, :kept]
    attention.output.dense.in_features = kept
    layer.intermediate.dense.weight.data = layer.intermediate.dense.weight.data[:700]
    layer.intermediate.dense.bias.data = layer.intermediate.dense.bias.data[:700]
    layer.intermediate.dense.out_features = 700
    thin = checkpoint.factorized(700, 48, 384, bias=True)
    layer.output.dense = thin
    source, output = tmp_path / "checkpoint", tmp_path / "bundle"
    checkpoint.save(model, tokenizer, source)
    quantization.write(plan_for(source), source)
    output.mkdir()
    info = build(source, output, task=TASK, split=SPLIT, form="deploy")
    assert info.integer_matmuls == 14  # the thin layer counts twice
    assert info.model["heads"] == [5, 12]


def integers(bundle: Path) -> list[np.ndarray]:
    """Return the int8 weights of a bundle's linear layers, inputs × outputs each."""
    graph = onnx.load(bundle / "model.onnx").graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    given = [node.input[1] for node in graph.node if "MatMul" in node.op_type]
    return [
        numpy_helper.to_array(held[name]).astype(int)
        for name in given
        if name in held and held[name].data_type == onnx.TensorProto.INT8
    ]


def test_the_eighth_bit_is_for_cpus_that_have_vnni(minilm, tmp_path):
    """The bundle says so in its signature, and refuses to run elsewhere.

    Without VNNI, 255 times two neighbouring weights of one sign must stay within 16 bits.
    """
    if not cpu_arithmetic.exact():
        pytest.skip("this CPU has no VNNI")
    source = copy_with(minilm, plan_for(minilm), tmp_path / "checkpoint")
    found = {}
    for isa in ("avx2", "vnni"):
        (tmp_path / isa).mkdir()
        build(source, tmp_path / isa, task=TASK, split=SPLIT, form="deploy", isa=isa)
        found[isa] = json.loads((tmp_path / isa / "signature.json").read_text()).get("isa")
    assert found == {"avx2": None, "vnni": "vnni"}
    portable, eight = (integers(tmp_path / isa) for isa in ("avx2", "vnni"))
    assert len(portable) == len(eight) == 13
    for weight in portable:
        for side in (weight.clip(0), -weight.clip(None, 0)):
            assert 255 * (side[0:-1:2] + side[1::2]).max() < 2**15
    assert all((abs(weight).max(axis=0) == 127).all() for weight in eight)
    assert any((abs(weight).max(axis=0) < 127).any() for weight in portable)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cpu_arithmetic, "exact", lambda: False)
        BundleModel(tmp_path / "avx2")
        with pytest.raises(ProviderError, match="isa: vnni"):
            BundleModel(tmp_path / "vnni")
        with pytest.raises(ProviderError, match="isa: vnni"):
            build(source, tmp_path, task=TASK, split=SPLIT, form="deploy", isa="vnni")


@pytest.mark.parametrize(("name", "says"), [("scale", "scale"), ("positions", "positions")])
def test_the_pass_that_breaks_a_graph_is_named(tmp_path, monkeypatch, name, says):
    """Those after it change the graph as well, and are not blamed."""
    broken = import_module(f"rarefy.exporters.passes.{name}")
    real = broken.apply

    def sabotage(graph, *bounds):
        found = real(graph, *bounds)
        for name, weight in graph.graph.initializers.items():
            if name.endswith("weight.T"):
                weight.const_value = ir.tensor(weight.const_value.numpy() * 2)
        return found or 1

    monkeypatch.setattr(broken, "apply", sabotage)
    write_family(tmp_path / "checkpoint", "bert", "AutoModelForSequenceClassification", layers=2)
    texts, labels = sentences(60)
    rows = Split("dev", "dev.jsonl", "0" * 64, texts, None, labels)
    (tmp_path / "bundle").mkdir()
    with pytest.raises(ModelError, match=f"after the pass {says}, a logit differs"):
        build(tmp_path / "checkpoint", tmp_path / "bundle", task=TINY, split=rows, form="deploy")


def test_plans_that_would_be_slower_are_refused(minilm, tmp_path):
    source = copy_with(minilm, plan_for(minilm), tmp_path / "int8")
    half = copy_with(minilm, Plan(precision="fp16"), tmp_path / "fp16")
    arguments = {"task": TASK, "split": SPLIT, "form": "deploy"}
    with pytest.raises(ModelError, match="int8 on the cuda provider is slower than fp16"):
        build(source, tmp_path, target_provider="cuda", **arguments)
    with pytest.raises(ModelError, match="fp16 on the cpu provider is slower"):
        build(half, tmp_path, **arguments)


def test_a_plan_for_modules_that_are_not_there_is_refused(minilm, tmp_path):
    plan = Plan(linears={"bert.encoder.layer.9.output.dense": LinearPlan(precision="int8")})
    source = copy_with(minilm, plan, tmp_path / "checkpoint")
    with pytest.raises(
        ModelError, match="0 matrix multiplications are in int8, but the quantization plan"
    ):
        build(source, tmp_path, task=TASK, split=SPLIT, form="deploy")


def test_heads_that_read_a_shared_table_are_exported_unevenly(tmp_path):
    """MPNet's layers keep other heads of one table of relative positions."""
    model = write_family(tmp_path / "whole", "mpnet", "AutoModelForSequenceClassification").eval()
    for part, kept in zip(surgery.parts(model, "heads"), ([0, 2], [1, 2, 3], [0, 1]), strict=True):
        surgery.keep_units(part, torch.tensor(kept))
    checkpoint.count_heads(model)
    tokenizer = checkpoint.load_tokenizer(tmp_path / "whole")
    source, output = tmp_path / "checkpoint", tmp_path / "bundle"
    checkpoint.save(model, tokenizer, source)
    quantization.write(bundles.rounded(model), source)
    output.mkdir()
    texts, labels = sentences(60)
    rows = Split("dev", "dev.jsonl", "0" * 64, texts, None, labels)
    info = build(source, output, task=TINY, split=rows, form="deploy")
    assert info.precision == "int8"
    assert info.model["heads"] == [2, 3, 2]
    assert info.parity.agreement == 1


def test_opset_20_is_for_runtimes_without_an_operator_for_attention(deployed, minilm, tmp_path):
    """The answers are those of the same graph in float; int8 rounds the same way."""
    _, output = deployed
    source, made = copy_with(minilm, plan_for(minilm), tmp_path / "checkpoint"), tmp_path / "b"
    made.mkdir()
    info = build(source, made, task=TASK, split=SPLIT, form="deploy", opset=20)
    graph = onnx.load(made / "model.onnx")
    assert next(one.version for one in graph.opset_import if not one.domain) == 20
    assert "Attention" not in info.operators
    assert info.operators["Softmax"] > 0
    signature = json.loads((made / "signature.json").read_text())
    assert signature["least_onnxruntime"] == "1.18"
    ours, theirs = (probabilities(path, TEXTS) for path in (made, output))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
