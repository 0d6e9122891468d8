"""The answers that a bundle's own predict.py gives without rarefy."""

from __future__ import annotations

import numpy as np
import pytest

from exporters.bundle import (
    task_multi_label_classification,
    task_regression,
    task_sentence_embeddings,
)
from pipeline.stage.tasks.sentence_embeddings import SENTENCE_EMBEDDINGS

EMBEDDING = np.array([[0.6, -0.8000001, 1 / 3]], dtype=np.float32)


def test_a_label_is_given_if_its_probability_reaches_its_threshold():
    config = {
        "id2label": {"0": "a", "1": "b", "2": "c"},
        "thresholds": {"a": 0.5, "b": 0.9, "c": 0.2},
    }
    describe = task_multi_label_classification.describe
    answer = describe(np.array([0.0, 2.0, -1.0], np.float32), config)
    assert answer["labels"] == ["a", "c"]
    expected = {"a": 0.5, "b": 1 / (1 + np.exp(-2)), "c": 1 / (1 + np.e)}
    assert answer["probabilities"] == pytest.approx(expected, abs=1e-6)
    none = describe(np.array([-900.0, -900.0, -900.0], np.float32), config)
    assert none == {"labels": [], "probabilities": {"a": 0.0, "b": 0.0, "c": 0.0}}


def test_a_row_has_its_score_with_six_decimals():
    answer = task_regression.describe(np.array([1.23456789], np.float32), {})
    assert answer == {"score": 1.234568}


def test_the_vector_is_the_tasks_own_answer():
    task = SENTENCE_EMBEDDINGS.bind((), 8, ())
    (prediction,) = task.presenter.answers(task.head.predictions(EMBEDDING).round(6))
    assert task_sentence_embeddings.describe(EMBEDDING[0], {}) == prediction._asdict()
