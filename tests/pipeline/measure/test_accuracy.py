"""A bundle's answers on a split, and their metrics with confidence intervals."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pipeline.measure import accuracy
from pipeline.model import checkpoint
from pipeline.stage.split import Split
from pipeline.stage.tasks.text_classification import TEXT_CLASSIFICATION
from tests.models import LABELS, sentences, write_encoder, write_finetuned
from tests.pipeline.measure import bundles

TASK = TEXT_CLASSIFICATION.bind(LABELS, 32, ("text",))


@pytest.mark.parametrize("side", ["right", "left"])
def test_batches_by_length_answer_as_each_row_alone(tmp_path, side):
    """The answers are also in the order of the rows, and no text's depend on its batch."""
    encoder = write_encoder(tmp_path / "encoder", layers=1, hidden=16)
    model = TASK.head.load(str(encoder)).eval()
    with torch.no_grad():  # fresh ones are too small to tell one place from another
        model.bert.embeddings.position_embeddings.weight.mul_(20)
        model.classifier.weight.mul_(20)
    path = encoder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": side}))
    tokenizer = checkpoint.load_tokenizer(encoder)
    checkpoint.save(model, tokenizer, tmp_path / "model")
    texts, labels = sentences(70, seed=3)
    split = Split("eval", "eval.jsonl", "0" * 64, texts, None, labels)
    notes = []
    found = accuracy.checkpoint_answers(
        tmp_path / "model", TASK, split, lambda *told: notes.append(told)
    )
    assert notes[-1][:2] == (70, 70)
    with torch.no_grad():
        for row in (0, 7, 69):
            alone = model(**tokenizer(texts[row], return_tensors="pt")).logits.softmax(-1)[0]
            assert found[row] == pytest.approx(alone.numpy(), abs=1e-5)


def test_a_bundle_answers_every_row_with_shares(tmp_path):
    texts = bundles.texts(5)
    split = Split("eval", "eval.jsonl", "0" * 64, texts, None, [0] * 5)
    found = accuracy.bundle_answers(
        bundles.make(tmp_path / "b"),
        TASK,
        split,
        provider="cpu",
        threads=1,
        progress=lambda *_: None,
    )
    assert found.shape == (5, 2)
    assert found.sum(axis=1) == pytest.approx(np.ones(5))


def test_equal_answers_are_equal_bytes():
    answers = np.array([[1 / 3, 2 / 3]])
    assert accuracy.as_table(answers) == accuracy.as_table(answers + 1e-12)


def test_a_metric_lies_inside_its_interval_and_counts_its_rows():
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 2, 400)
    sure = np.where(draw.random(400) < 0.8, truth, 1 - truth)
    answers = np.eye(2)[sure] * 0.8 + 0.1
    found = {
        m.name: m
        for m in accuracy.metrics(
            TEXT_CLASSIFICATION, TASK.scorer.scores, answers, truth.tolist(), "eval"
        )
    }
    one = found["accuracy"]
    assert one.value == pytest.approx(np.mean(sure == truth))
    assert one.low < one.value < one.high
    # The normal approximation, computed by hand.
    reach = 1.96 * np.sqrt(one.value * (1 - one.value) / 400)
    assert (one.high - one.low) / 2 == pytest.approx(reach, rel=0.15)
    assert one.n == 400


def test_a_large_split_is_answered_in_parts(tmp_path, monkeypatch):
    """A million rows as lists of tokens would fill the memory."""
    write_finetuned(tmp_path)
    texts, labels = sentences(23, seed=1)
    split = Split("eval", "e", "0" * 64, texts, None, labels)
    whole = accuracy.checkpoint_outputs(tmp_path, TASK, split, lambda *_: None)
    monkeypatch.setattr(accuracy, "PART", 5)
    said = []
    parts = accuracy.checkpoint_outputs(tmp_path, TASK, split, lambda *what: said.append(what))
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    shares = [done / total for done, total, _ in said]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(said) == 5
