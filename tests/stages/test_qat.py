"""Weights learn to answer well in int8; the plan they were trained with is what ships."""

from __future__ import annotations

import pytest
import torch

from pipeline.model import checkpoint, quantization
from pipeline.run import quantized
from pipeline.store.artifact import Kind
from pipeline.terms.digests import file_sha256
from pipeline.terms.errors import ModelError, RecipeError
from stages import ranges, sensitivity
from stages.adapt import Adapt
from stages.merge import Merge
from stages.qat import Qat
from tests.models import artifact_of
from tests.stages.chains import made_artifact


def narrowed(artifact, directory):
    """Return a checkpoint with a plan whose ranges cut half of the inputs."""
    network = checkpoint.load(artifact.directory)
    checkpoint.save(network, checkpoint.load_tokenizer(artifact.directory), directory)
    layers = {
        name: quantization.LinearPlan(precision="int8", low=-0.3, high=0.3)
        for name in sensitivity.linear_layers(network)
    }
    how = quantization.Calibration(rows=32)
    quantization.write(quantization.Plan(mode="static", calibration=how, linears=layers), directory)
    return artifact_of(directory, Kind.CHECKPOINT)


@pytest.fixture
def planned(tuned, tmp_path):
    return narrowed(tuned, tmp_path / "planned")


def made(stage, context, model, kind):
    """Run a stage; return its output as the engine publishes it, with the plan that it keeps."""
    draft = stage.run(context, model)
    draft = quantized.carry(stage, model, context.output, kind, draft)
    return made_artifact(context.output, kind, **draft.model)


def damage(context, model, exact) -> float:
    """Return the divergence of a model's answers, rounded by its plan, from the exact ones."""
    network = checkpoint.load(model.directory)
    plan = quantization.read(model.directory)
    tokenizer = checkpoint.load_tokenizer(model.directory)
    rows = ranges.rows(context, tokenizer, "train", 128)
    measured = sensitivity.Sensitivity(context.task, checkpoint.load(exact.directory), rows, "avx2")
    rounded = sensitivity.Sensitivity(context.task, network, rows, "avx2")
    with sensitivity.quantized(network, plan.integer_layers, "avx2"):
        answers = rounded._answers()
    return float(context.task.divergence(measured.exact, answers).mean())


def test_what_rounding_takes_is_won_back(planned, make_context):
    context = make_context(rows=256)
    before = damage(context, planned, planned)
    stage = Qat(epochs=3, learning_rate=1e-3, batch_size=16)
    trained = made(stage, context, planned, Kind.CHECKPOINT)
    assert before > 0.02
    assert damage(context, trained, planned) < before / 2


def test_its_loss_is_in_the_draft_and_the_plan_is_left_to_the_engine(planned, make_context):
    context = make_context(rows=32)
    draft = Qat(batch_size=16).run(context, planned)
    assert draft.metrics[0].name == "train_loss"
    assert not (context.output / quantization.FILE).exists()


def test_an_adapter_wins_it_back_too_and_merges(planned, make_context, tmp_path):
    context = make_context(rows=256, artifacts={"exact": planned})
    before = damage(context, planned, planned)
    stage = Adapt(qat=True, teacher="exact", rank=8, epochs=3, learning_rate=5e-3, batch_size=16)
    adapted = made(stage, context, planned, Kind.ADAPTER)
    merging = make_context(rows=256, work=tmp_path / "merging")
    merged = made(Merge(), merging, adapted, Kind.CHECKPOINT)
    assert damage(context, merged, planned) < before / 2
    assert quantization.read(merged.directory) == quantization.read(planned.directory)


@pytest.mark.parametrize("stage", [Qat(), Adapt(qat=True)])
def test_a_plan_without_integers_is_refused(stage, planned, make_context):
    plan = quantization.read(planned.directory)
    linears = {name: quantization.LinearPlan(precision="float") for name in plan.linears}
    quantization.write(plan.model_copy(update={"linears": linears}), planned.directory)
    with pytest.raises(ModelError, match="no layer is int8 in the plan"):
        stage.run(make_context(), planned)


def test_it_is_the_same_twice(planned, make_context, tmp_path):
    digests = []
    for run in ("one", "two"):
        context = make_context(rows=32, work=tmp_path / run)
        Qat(batch_size=16).run(context, planned)
        digests.append(file_sha256(context.output / "model.safetensors"))
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("training", "last"),
    [
        ([{"qat": {"epochs": 3}}], "qat"),
        ([{"adapt": {"qat": True, "epochs": 3, "learning_rate": 1e-2}}, "merge"], "merge"),
    ],
)
def test_the_plan_is_that_of_the_training_and_reaches_the_bundle(training, last, workshop):
    """Ranges that cut inputs, as ``mse`` chooses them, are what the weights were trained for."""
    static = {"mode": "static", "calibration": "mse", "correct_bias": True, "calibration_rows": 16}
    done = workshop.run(
        {"finetune": {"epochs": 1}},
        {"quantize": static | {"sensitivity": False}},
        *training,
        "export",
    )
    before, after = (
        quantization.read(done[name].artifact.directory) for name in ("quantize", last)
    )
    assert before == after
    assert done["export"].artifact.manifest.model["precision"] == "int8"
    old, new = (
        checkpoint.load(done[name].artifact.directory).state_dict() for name in ("quantize", last)
    )
    assert any(not torch.equal(old[name], new[name]) for name in old)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (["finetune", "qat"], "put 'quantize' before it"),
        (["finetune", {"adapt": {"qat": True}}], "put 'quantize' before it"),
        (["finetune", {"quantize": {"precision": "fp16"}}, "qat"], "fp16 needs no training"),
        (
            ["finetune", {"quantize": {"precision": "fp16"}}, {"adapt": {"qat": True}}],
            "fp16 needs no training",
        ),
        (
            ["finetune", "quantize", {"adapt": {"qat": True, "method": "dora"}}],
            "'qat' needs 'method: lora'",
        ),
        (
            ["finetune", "quantize", {"adapt": {"qat": True, "dropout": 0.1}}],
            "'dropout' is not used with 'qat'",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_runs(stages, message, workshop):
    with pytest.raises(RecipeError, match=message):
        workshop.open(*stages).plan.steps()
