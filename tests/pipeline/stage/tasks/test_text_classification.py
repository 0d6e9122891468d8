"""Classification of texts: rows, heads and metrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.model import checkpoint
from pipeline.stage.data import Split
from pipeline.stage.tasks.text_classification import TextClassification
from tests.models import LABELS, write_encoder

TASK = TextClassification(LABELS, 6, ("text",))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("task") / "encoder", layers=1, hidden=16)


def test_rows_are_cut_to_the_limit_and_their_whole_length_is_known(encoder):
    tokenizer = checkpoint.load_tokenizer(encoder)
    split = Split(
        "eval", "f", "0" * 64, ["the film", "a very fine story with a scene"], None, [0, 1]
    )
    short, long = TASK.encode(tokenizer, split)
    assert (len(short["input_ids"]), len(long["input_ids"])) == (4, 6)
    assert TASK.lengths(tokenizer, split, [0, 1]) == [4, 9]
    assert TASK.encode(tokenizer, split, [1]) == [long]
    assert TASK.encode(tokenizer, split, []) == []


def test_a_pair_is_two_segments(encoder):
    tokenizer = checkpoint.load_tokenizer(encoder)
    (row,) = TASK.encode(tokenizer, Split("eval", "f", "0" * 64, ["film"], ["story"], [0]))
    assert tokenizer.decode(row["input_ids"]) == "[CLS] film [SEP] story [SEP]"


def test_a_head_for_these_labels_is_kept(encoder, tmp_path):
    model = TASK.load_model(str(encoder))
    assert model.config.id2label == dict(enumerate(LABELS))
    checkpoint.save(model, checkpoint.load_tokenizer(encoder), tmp_path / "model")
    again = TASK.load_model(str(tmp_path / "model"))
    assert torch.equal(again.classifier.weight, model.classifier.weight)


def test_accuracy_and_macro_f1_by_hand():
    """Six rows: of class 0 two hits and a miss, of class 1 two hits and a miss."""
    answers = np.array([[0.9, 0.1]] * 2 + [[0.1, 0.9]] * 3 + [[0.9, 0.1]])
    truth = np.array([0, 0, 0, 1, 1, 1])
    found = TASK.metrics(answers, truth)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["macro_f1"] == pytest.approx(2 * 2 / (2 * 2 + 2))
    assert found["ece"] == pytest.approx(0.9 - 4 / 6)
