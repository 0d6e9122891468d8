"""A student without attention: trained, quantized, exported and answered like any other."""

from __future__ import annotations

import pytest
import torch

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.tasks.regression.task import REGRESSION
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.stages.bag_of_tokens import BagOfTokens
from rarefy.stages.distill import Distill
from rarefy.stages.finetune import Finetune
from tests.conftest import VALIDATE
from tests.models import artifact_of, sentences


def logits(network, tokenizer, texts):
    with torch.no_grad():
        return torch.cat([network(**tokenizer(t, return_tensors="pt")).logits for t in texts])


@pytest.fixture
def student(tuned, make_context):
    context = make_context(rows=64)
    draft = BagOfTokens(width=16, buckets=64, neurons=16).run(context, tuned)
    return draft, artifact_of(context.output, Kind.CHECKPOINT)


def test_it_starts_with_the_teachers_tokens_and_labels(student, tuned):
    draft, artifact = student
    network, teacher = checkpoint.load(artifact.directory), checkpoint.load(tuned.directory)
    assert network.config.id2label == teacher.config.id2label
    assert network.bag_of_tokens.embeddings.weight.shape == (teacher.config.vocab_size, 16)
    assert not network.bag_of_tokens.pairs.weight.any()
    assert 0.5 < {m.name: m.value for m in draft.metrics}["variance_kept"] <= 1
    assert draft.model["layers"] == 0
    assert draft.model["parameters"] == sum(p.numel() for p in network.parameters())


@pytest.mark.slow
def test_it_learns_its_teachers_answers(student, tuned, make_context):
    context = make_context(rows=256, artifacts={"big": tuned})
    stage = Distill(teacher="big", learning_rate=1e-2, epochs=8, batch_size=16)
    stage.run(context, student[1])
    tokenizer, (new, _) = checkpoint.load_tokenizer(tuned.directory), sentences(100, seed=5)
    theirs = logits(checkpoint.load(tuned.directory), tokenizer, new)
    own = logits(checkpoint.load(context.output), tokenizer, new)
    assert (theirs.argmax(-1) == own.argmax(-1)).float().mean() >= 0.95


@pytest.mark.slow
def test_the_whole_chain_ends_in_a_bundle_that_answers(workshop):
    finished = workshop.run(
        {"quick:Head": None, "as": "finetune"},
        {"bag_of_tokens": {"width": 16, "buckets": 64, "neurons": 16}},
        {"distill": {"teacher": "finetune", "epochs": 1}},
        "quantize",
        "export",
        VALIDATE,
    )
    bundle = finished["export"].artifact
    assert bundle.manifest.model["precision"] == "int8"
    assert finished["export"].scores[0].name == "accuracy"


def test_layers_of_it_cannot_be_removed(workshop):
    with pytest.raises(
        RecipeError, match=r"trial.yaml:\d+: .*'rarefy-bag-of-tokens' are not described"
    ):
        workshop.open("quick:Head", "bag_of_tokens", {"distill": {"keep_layers": 1}}).plan.steps()


def test_tags_of_words_need_attention(workshop):
    with pytest.raises(
        RecipeError,
        match=r"trial.yaml:\d+: .*bag_of_tokens: not supported for token",
    ):
        workshop.open({"finetune": {}}, "bag_of_tokens", task="token-classification").plan.steps()


def test_its_vocabulary_is_pruned_before(workshop):
    stages = ["quick:Head", "bag_of_tokens", {"prune": {"vocabulary": True}}]
    with pytest.raises(RecipeError, match=r"trial.yaml:\d+: .*put it before 'bag_of_tokens'"):
        workshop.open(*stages).plan.steps()


def test_it_is_no_teacher_of_another(workshop):
    again = {"bag_of_tokens": {}, "as": "smaller"}
    with pytest.raises(
        RecipeError, match=r"trial.yaml:\d+: .*the model is a student without attention alr"
    ):
        workshop.open("quick:Head", "bag_of_tokens", again).plan.steps()


@pytest.mark.parametrize("target", ["attention", "all-linear"])
def test_it_has_no_layers_for_adapters(workshop, target):
    with pytest.raises(
        RecipeError, match=r"trial.yaml:\d+: .*a student without attention has no layers for"
    ):
        workshop.open("quick:Head", "bag_of_tokens", {"adapt": {"modules": target}}).plan.steps()


def test_it_is_no_wider_than_its_teacher(workshop):
    with pytest.raises(
        RecipeError, match=r"bag_of_tokens.width: 300 is more than the teacher's, 16"
    ):
        workshop.open("quick:Head", {"bag_of_tokens": {"width": 300}}).plan.steps()


def scored():
    texts = sentences(32)[0]
    rows = Split(
        "train", "t.jsonl", "0" * 64, texts, None, [60.0 + 20 * (n % 2) for n in range(32)]
    )
    return {"train": rows, "dev": rows, "eval": rows}


def test_scores_start_from_their_mean(tiny_encoder, make_context):
    context = make_context(splits=scored(), task=REGRESSION.bind((), 32, ("text",)))
    Finetune(epochs=1).run(context, tiny_encoder)
    teacher = artifact_of(context.output, Kind.CHECKPOINT)
    again = make_context(splits=scored(), task=context.task)
    BagOfTokens(width=8, buckets=0, neurons=16).run(again, teacher)
    network = checkpoint.load(again.output)
    assert network.classifier.bias.item() == pytest.approx(70, abs=0.5)
