"""A task of rows without labels is the same task with one score: agreement."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rarefy.pipeline.measure.predictions import floor
from rarefy.pipeline.measure.statistics import scores
from rarefy.pipeline.tasks import unlabelled
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.tasks.regression.task import REGRESSION
from rarefy.pipeline.tasks.token_classification.task import TOKEN_CLASSIFICATION

BARE = unlabelled.without_labels(TEXT_CLASSIFICATION)


def test_its_only_score_is_the_share_of_rows_answered_alike() -> None:
    answers = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    truth = [0, 1, 1, 1]
    assert list(BARE.scorer.formulas(truth)) == ["agreement"]
    share = scores.alone(BARE, "agreement", answers, truth)
    assert share.value == pytest.approx(3 / 4)
    assert share.low < 3 / 4 < share.high


def test_everything_else_is_the_tasks_own() -> None:
    assert unlabelled.without_labels(TEXT_CLASSIFICATION) == BARE, "so intervals are drawn once"
    for part in ("reader", "encoder", "head", "objective", "presenter"):
        assert getattr(BARE, part) == getattr(TEXT_CLASSIFICATION, part)
    assert BARE.name == "text-classification"
    assert (BARE.unlabelled, TEXT_CLASSIFICATION.unlabelled) == (True, False)
    assert "accuracy" in TEXT_CLASSIFICATION.scorer.scores, "the task itself is as before"


def test_the_divergence_is_scipys() -> None:
    draw = np.random.default_rng(0)
    ours, theirs = draw.dirichlet(np.ones(3), 50), draw.dirichlet(np.ones(3), 50)
    nats = TEXT_CLASSIFICATION.scorer.divergence(ours, theirs)
    assert nats == pytest.approx([stats.entropy(q, p) for p, q in zip(ours, theirs, strict=True)])
    mean = scores.divergence(TEXT_CLASSIFICATION, ours, theirs)
    assert mean.value == pytest.approx(nats.mean())
    assert 0 <= mean.low < mean.value < mean.high


def test_a_probability_rounded_to_zero_does_not_make_it_infinite() -> None:
    ours, theirs = np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])
    assert np.isfinite(TEXT_CLASSIFICATION.scorer.divergence(ours, theirs)).all()
    assert TEXT_CLASSIFICATION.scorer.divergence(ours, ours).tolist() == [0.0]


def test_a_model_that_answers_all_rows_alike_has_learned_nothing() -> None:
    alike = np.array([[0.9, 0.1]] * 40)
    assert "is no better than a trivial" in (floor.learned_nothing(BARE, alike, [0] * 40) or "")
    assert floor.learned_nothing(TEXT_CLASSIFICATION, alike, [0] * 40) is None, "nothing to tell by"


def test_a_tagger_that_gives_every_word_the_same_tag_has_learned_nothing() -> None:
    own = unlabelled.without_labels(TOKEN_CLASSIFICATION)
    names = {"names": ["O", "B-A"]}
    alike = [{"tags": [0, 0, 0]} | names, {"tags": [0]}, {"tags": [0, 0]}]
    assert own.scorer.floor(alike) == 1
    assert own.scorer.floor([{"tags": [0]} | names, {"tags": [1]}]) is None, (
        "sentences of one tag each"
    )


def test_scores_agree_within_a_quarter_of_the_models_own_deviation() -> None:
    """A score that people gave is noisy, so there half of it is right."""
    own = unlabelled.without_labels(REGRESSION)
    truth = [0.0, 0.0, 4.0, 4.0]  # the standard deviation is 2
    answers = np.array([[0.4], [0.6], [3.1], [np.nan]])
    assert own.scorer.formulas(truth)["agreement"](answers, truth)(np.ones((1, 4))).tolist() == [
        0.25
    ]
    assert own.scorer.correct(answers, truth).tolist() == [True, False, False, False]
    assert REGRESSION.scorer.correct(answers, truth).tolist() == [True, True, True, False]
    ranked = [[1.0, 0], [0.0, 0]]
    assert own.scorer.correct(np.array([[2.0], [1.0]]), ranked).tolist() == [True]
