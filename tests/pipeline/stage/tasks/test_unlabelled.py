"""A task of rows without labels is the same task with one score: agreement."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.measure import floor, scores
from pipeline.stage.tasks import unlabelled
from pipeline.stage.tasks.text_classification import TextClassification

BARE = unlabelled.of(TextClassification)


def test_its_only_score_is_the_share_of_rows_answered_alike() -> None:
    answers = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    truth = [0, 1, 1, 1]
    assert list(BARE.formulas(truth)) == ["agreement"]
    share = scores.alone(BARE, "agreement", answers, truth)
    assert share.value == pytest.approx(3 / 4)
    assert share.low < 3 / 4 < share.high


def test_everything_else_is_the_tasks_own() -> None:
    assert unlabelled.of(TextClassification) is BARE, "one class for every caller"
    assert issubclass(BARE, TextClassification)
    assert BARE.name == "text-classification"
    assert (BARE.unlabelled, TextClassification.unlabelled) == (True, False)
    assert "accuracy" in TextClassification.scores, "the task itself is as before"


def test_the_divergence_is_scipys() -> None:
    draw = np.random.default_rng(0)
    ours, theirs = draw.dirichlet(np.ones(3), 50), draw.dirichlet(np.ones(3), 50)
    nats = TextClassification.nats(ours, theirs)
    assert nats == pytest.approx([stats.entropy(q, p) for p, q in zip(ours, theirs, strict=True)])
    mean = scores.divergence(TextClassification, ours, theirs)
    assert mean.value == pytest.approx(nats.mean())
    assert 0 <= mean.low < mean.value < mean.high


def test_a_probability_rounded_to_zero_does_not_make_it_infinite() -> None:
    ours, theirs = np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])
    assert np.isfinite(TextClassification.nats(ours, theirs)).all()
    assert TextClassification.nats(ours, ours).tolist() == [0.0]


def test_a_model_that_answers_all_rows_alike_has_learned_nothing() -> None:
    alike = np.array([[0.9, 0.1]] * 40)
    assert "has learned nothing" in (floor.learned_nothing(BARE, alike, [0] * 40) or "")
    assert floor.learned_nothing(TextClassification, alike, [0] * 40) is None, "nothing to tell by"
