"""One of several labels: probabilities, and what two models' say of each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special, stats

from tests.models import TASK

LOGITS = np.random.default_rng(0).normal(0, 3, (5, 2))
OTHER = np.random.default_rng(1).normal(0, 3, (5, 2))
NAN = np.full((1, 2), np.nan)


def test_answers_are_the_softmax_of_logits_of_any_size():
    assert TASK.head.predictions(LOGITS) == pytest.approx(special.softmax(LOGITS, axis=1))
    assert TASK.head.predictions(1000 * np.eye(2, dtype=np.float32)).tolist() == np.eye(2).tolist()


def test_the_divergence_is_that_of_the_probabilities():
    expected = stats.entropy(*(TASK.head.predictions(side) for side in (LOGITS, OTHER)), axis=1)
    found = TASK.objective.divergence(torch.tensor(LOGITS), torch.tensor(OTHER))
    assert found.numpy() == pytest.approx(expected)


def test_an_answer_is_the_most_probable_label_and_nan_is_none():
    ours = np.array([[0.6, 0.4], [0.54, 0.46], [0.3, 0.7]])
    theirs = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    assert TASK.scorer.agreement(ours, theirs).tolist() == [True, False, True]
    assert TASK.head.rounding(ours, theirs).decided.tolist() == [True, False, True]
    assert TASK.presenter.confidence(np.vstack([ours, NAN]), []).tolist() == [0.6, 0.54, 0.7, 0]
