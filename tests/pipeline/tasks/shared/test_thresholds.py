"""Thresholds keep what is required of the rows that they were chosen by, and no more."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.tasks.shared import thresholds
from rarefy.pipeline.terms.recipe_parts import Threshold

NAMES = ("a", "b", "c")


def predictions(seed, rows=300, levels=None):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 3, rows)
    logits = generator.normal(size=(rows, 3)) + 1.2 * np.eye(3)[truth]
    if levels:
        logits = np.round(logits * levels) / levels
    shares = np.exp(logits)
    return shares / shares.sum(axis=1, keepdims=True), truth


def decided_with(shares, label, limit):
    return (shares.argmax(axis=1) == label) & (shares.max(axis=1) >= limit)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("precision", [0.5, 0.8, 0.95])
def test_a_precision_is_kept_by_as_many_rows_as_possible(seed, levels, precision):
    shares, truth = predictions(seed, levels=levels)
    limits = thresholds.choose(shares, truth, Threshold(precision=precision))
    for label, limit in enumerate(limits):
        most = 0
        for other in [0.0, *shares[:, label]]:
            given = decided_with(shares, label, other)
            if given.any() and (truth[given] == label).mean() >= precision:
                most = max(most, given.sum())
        if limit is None:
            assert most == 0
            continue
        given = decided_with(shares, label, limit)
        assert (truth[given] == label).mean() >= precision
        assert given.sum() == most


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("recall", [0.3, 0.5, 0.99])
def test_a_recall_is_kept_by_as_few_rows_as_possible(seed, recall):
    shares, truth = predictions(seed)
    limits = thresholds.choose(shares, truth, Threshold(recall=recall))
    for label, limit in enumerate(limits):
        of_label = truth == label
        kept = (decided_with(shares, label, limit) & of_label).sum() / of_label.sum()
        most = (decided_with(shares, label, 0.0) & of_label).sum() / of_label.sum()
        if most < recall:
            assert limit == 0.0
            continue
        assert kept >= recall
        higher = [value for value in shares[:, label] if value > limit]
        fewer = (decided_with(shares, label, min(higher) + 1e-12) & of_label).sum()
        assert fewer / of_label.sum() < recall


def test_a_label_that_is_never_right_is_never_given():
    shares = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    truth = [1, 1, 1]
    assert thresholds.choose(shares, truth, Threshold(precision="90 %")) == [None, 0.0]
    left = thresholds.undecided(shares, ("a", "b"), {"a": None, "b": 0.0})
    assert left.tolist() == [True, True, False]


def test_a_label_that_is_never_predicted_has_no_threshold_for_a_precision():
    shares = np.array([[0.9, 0.1], [0.8, 0.2]])
    assert thresholds.choose(shares, [0, 0], Threshold(precision=0.9)) == [0.0, None]


def test_a_row_of_nan_is_not_decided():
    shares = np.array([[np.nan, np.nan], [0.4, 0.6]])
    assert thresholds.undecided(shares, ("a", "b"), {"a": 0, "b": 0.6}).tolist() == [True, False]


def test_a_label_without_a_threshold_is_always_given():
    """So does the program of a bundle; None is for a label that is never given."""
    shares = np.array([[0.6, 0.4], [0.4, 0.6]])
    assert thresholds.undecided(shares, ("a", "b"), {"b": None}).tolist() == [False, True]


@pytest.mark.parametrize(
    "fields", [{}, {"precision": 0.9, "recall": 0.9}, {"precision": 0}, {"recall": 95}]
)
def test_one_share_is_required(fields):
    with pytest.raises(ValidationError):
        Threshold(**fields)


def test_the_task_keeps_thresholds_for_a_bundle_only_if_it_is_told_to():
    shares, truth = predictions(0)
    split = Split("dev", "dev.jsonl", "0" * 64, ["t"] * len(truth), None, truth.tolist())
    task = TEXT_CLASSIFICATION.bind(NAMES, 32)
    outputs = np.log(shares)
    assert task.head.choose(outputs, split) == {}
    assert task.of_model({}).settings == {}
    told = replace(task, threshold=Threshold(precision=0.9))
    config = told.head.choose(outputs, split)
    assert set(config["thresholds"]) == set(NAMES)
    of_bundle = task.of_model(config)
    answers = of_bundle.presenter.answers(of_bundle.head.predictions(outputs))
    left = thresholds.undecided(shares, NAMES, config["thresholds"])
    assert 0 < left.sum() < len(truth)
    for answer, row, is_left in zip(answers, shares, left, strict=True):
        assert answer.label == (None if is_left else NAMES[row.argmax()])
        assert math.fsum(answer.probabilities.values()) == pytest.approx(1)
    undecided = next(answer for answer in answers if answer.label is None)
    assert undecided.columns()[0] == "(undecided)"
