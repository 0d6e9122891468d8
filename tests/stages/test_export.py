"""End of the chain: the bundle of a quantized model gives the same answers as PyTorch."""

from __future__ import annotations

import json
import runpy

import numpy as np
import pytest
import torch

from rarefy.pipeline import tasks
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.release.predict import Bundle
from rarefy.pipeline.stage import Requirements, StageCheck
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.tasks import unlabelled
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.tasks.token_classification.task import TOKEN_CLASSIFICATION
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.stages.export import Export
from rarefy.stages.quantize import Quantize
from tests.models import LABELS, artifact_of, probabilities, sentences


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["none", "dynamic", "static"])
def test_the_bundle_answers_as_the_checkpoint(mode, tuned, make_context):
    model = tuned
    if mode != "none":
        planned = make_context()
        Quantize(mode=mode, calibration_rows=32).run(planned, tuned)
        model = artifact_of(planned.output, Kind.CHECKPOINT)
    context = make_context(targets=(Target(),))
    draft = Export().run(context, model)
    texts, labels = sentences(100, seed=5)
    answers = probabilities(context.output, texts)
    network = checkpoint.load(tuned.directory)
    tokenizer = checkpoint.load_tokenizer(tuned.directory)
    with torch.no_grad():
        inputs = tokenizer(texts, padding=True, return_tensors="pt")
        exact = network(**inputs).logits.softmax(-1).numpy()
    assert (answers.argmax(axis=1) == labels).mean() >= 0.95
    assert np.abs(answers - exact).max() < (1e-5 if mode == "none" else 0.1)
    metrics = {metric.name: metric.value for metric in draft.metrics}
    assert metrics["integer_matmuls"] == (0 if mode == "none" else draft_layers(model))
    assert metrics["graph_bytes"] == (context.output / "model.onnx").stat().st_size
    assert draft.roles["model.onnx"] == "graph"
    assert draft.model["passes"]["mask"] == 3
    assert draft.model["passes"]["relative_bias"] == 0, "BERT has no relative positions"


def draft_layers(model) -> int:
    from rarefy.pipeline.model.quantization import plan as quantization

    plan = quantization.read(model.directory)
    assert plan is not None
    return len(plan.integer_modules)


def contents(folder) -> str:
    """All that a bundle says outside its graph and vocabulary."""
    left_out = ("model.onnx", "tokenizer.json")
    files = [p for p in folder.rglob("*") if p.is_file() and p.name not in left_out]
    return "\n".join(path.read_text() for path in files)


def test_a_bundle_holds_no_training_row_and_development_rows_only_if_wanted(tuned, make_context):
    """A row may be somebody's secret; a bundle is given to others."""
    context = make_context(targets=(Target(),))
    trained, held_out = (context.splits[name].texts for name in ("train", "dev"))
    Export().run(context, tuned)
    request = json.loads((context.output / "samples/request.json").read_text())
    assert request["texts"] == held_out[:3]
    assert not [text for text in trained if text in contents(context.output)]

    bare = make_context(targets=(Target(),))
    draft = Export(samples="none").run(bare, tuned)
    assert not (bare.output / "samples").exists()
    assert not [text for text in [*trained, *held_out] if text in contents(bare.output)]
    assert "samples" not in (bare.output / "README.md").read_text()
    assert set(draft.roles) == {
        p.relative_to(bare.output).as_posix() for p in bare.output.rglob("*") if p.is_file()
    }
    assert probabilities(bare.output, held_out[:1]).shape == (1, 2)


@pytest.mark.slow
def test_a_bundle_leaves_rows_undecided_whose_label_is_below_its_threshold(base, make_context):
    """Its program, the product and the samples answer alike; the thresholds are its own."""
    texts, labels = sentences(60, seed=3)
    dev = Split("dev", "dev.jsonl", "0" * 64, texts, None, labels)
    context = make_context(targets=(Target(),), splits={"dev": dev})
    Export(threshold={"precision": "75 %"}).run(context, base)
    config = json.loads((context.output / "config.json").read_text())
    limits = config["thresholds"]
    assert set(limits) == set(LABELS)

    model = runpy.run_path(str(context.output / "predict.py"))["Model"]()
    answers = model(texts)
    ours = Bundle(context.output).predict(texts)
    shares = probabilities(context.output, texts)
    for answer, our_answer, row in zip(answers, ours, shares, strict=True):
        best = LABELS[row.argmax()]
        limit = limits[best]
        expected = best if limit is not None and row.max() >= limit else None
        assert answer["label"] == our_answer.label == expected
    decided = [a["label"] == LABELS[y] for a, y in zip(answers, labels, strict=True) if a["label"]]
    assert len(decided) < len(texts)
    assert np.mean(decided or [1.0]) >= 0.75
    assert (
        "chosen for precision 75% on development rows" in (context.output / "README.md").read_text()
    )
    samples = [
        json.loads((context.output / f"samples/{name}.json").read_text())
        for name in ("request", "response")
    ]
    assert model(samples[0]["texts"]) == samples[1]["predictions"]


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (TOKEN_CLASSIFICATION, "threshold: token-classification leaves no row undecided"),
        (unlabelled.without_labels(TEXT_CLASSIFICATION), "threshold: needs labels to choose by"),
    ],
)
def test_a_threshold_needs_one_label_a_row(task, said):
    with pytest.raises(RecipeError, match=said):
        Export(threshold={"recall": 0.9}).check(StageCheck(task, 32))


@pytest.mark.parametrize(
    ("task", "target", "planner", "said"),
    [
        ("text-classification", Target(provider="cuda"), None, "provider: cpu only, not cuda"),
        ("sentence-embeddings", Target(), None, "needs a head, which sentence-embeddings does not"),
        ("text-classification", Target(), Quantize(mode="static"), "needs dynamic ranges"),
    ],
)
def test_an_adapter_that_cannot_be_a_file_must_be_merged_before(task, target, planner, said):
    known = {"targets": (target,), "planner": planner}
    merged = StageCheck(tasks.find(task), 32, **known)
    adapted = StageCheck(tasks.find(task), 32, **known, input=Kind.ADAPTER)
    Export().check(merged)
    with pytest.raises(RecipeError, match=f"{said}.*; put 'merge' before 'export'"):
        Export().check(adapted)


def test_an_unknown_target_is_said(tuned, make_context):
    context = make_context(targets=(Target(name="laptop"),))
    with pytest.raises(
        RecipeError, match=r"export\.target: the recipe has no target 'phone', only laptop"
    ):
        Export(target="phone").run(context, tuned)


TARGETS = (Target(), Target(name="server", threads=4))


@pytest.mark.slow
def test_the_bundle_carries_the_threads_of_its_target(tuned, make_context):
    context = make_context(targets=TARGETS)
    Export(target="server").run(context, tuned)
    stored = json.loads((context.output / "session_options.json").read_text())
    assert stored["intra_op_num_threads"] == 4
    program = runpy.run_path(str(context.output / "predict.py"))
    session = program["Model"]().session
    assert session.get_session_options().intra_op_num_threads == 4
    assert "| threads | 4 |" in (context.output / "README.md").read_text()
    own, told = BundleModel(context.output), BundleModel(context.output, threads=2)
    assert own.session.get_session_options().intra_op_num_threads == 4
    assert told.session.get_session_options().intra_op_num_threads == 2


def test_other_threads_are_another_bundle():
    requirements = Requirements(targets=TARGETS)
    assert Export().environment(requirements)["threads"] == 1
    assert Export(target="server").environment(requirements)["threads"] == 4
