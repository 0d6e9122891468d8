"""Scores of one label against the rest are scikit-learn's, on rows repeated as weights say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn

from rarefy.pipeline.tasks.classification.multi_label import LabelsScorer
from rarefy.pipeline.tasks.classification.text import ClassScorer


def predictions(seed, rows=80, labels=2, levels=None):
    generator = np.random.default_rng(seed)
    truth = np.append(np.arange(labels), generator.integers(0, labels, rows - labels))
    logits = generator.normal(size=(rows, labels)) + 1.5 * np.eye(labels)[truth]
    if levels:
        logits = np.round(logits * levels) / levels  # many rows with the same probability
    shares = np.exp(logits)
    return shares / shares.sum(axis=1, keepdims=True), truth


def best_recall(flags, values, precision):
    """The definition, threshold by threshold."""
    recalls = [0.0]
    for threshold in values:
        flagged = values >= threshold
        if flags[flagged].mean() >= precision - 1e-9:
            recalls.append(flagged[flags == 1].mean())
    return max(recalls)


def expected(name, flags, values):
    if name == "auroc":
        return sklearn.roc_auc_score(flags, values)
    if name == "average_precision":
        return sklearn.average_precision_score(flags, values)
    return best_recall(flags, values, {"recall_80_precision": 0.8}.get(name, 0.625))


NAMES = ("auroc", "average_precision", "recall_80_precision", "recall_62.5_precision")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("levels", [None, 1])
@pytest.mark.parametrize("labels", [2, 3, 5])
def test_a_class_against_the_rest(name, levels, labels):
    shares, truth = predictions(labels, labels=labels, levels=levels)
    score = ClassScorer().formula(name, truth)(shares, truth)
    times = np.random.default_rng(7).integers(1, 4, (2, len(truth)))
    for weights in (np.ones(len(truth), int), *times):
        true, values = np.repeat(truth, weights), np.repeat(shares, weights, axis=0)
        flags = true[:, None] == np.arange(labels)
        columns = [1] if labels == 2 else range(labels)  # of two, the last is the positive one
        macro = np.mean([expected(name, flags[:, k].astype(int), values[:, k]) for k in columns])
        assert score(weights[None].astype(float))[0] == pytest.approx(macro)


@pytest.mark.parametrize("name", NAMES)
def test_labels_that_do_not_occur_are_left_out_of_the_mean(name):
    generator = np.random.default_rng(3)
    flags = (generator.random((60, 3)) < [0.3, 0.6, 0.0]).astype(int)
    values = np.clip(0.4 * flags + 0.6 * generator.random((60, 3)), 0, 1)
    outputs = np.hstack([values, values >= 0.5])
    score = LabelsScorer().formula(name, flags)(outputs, flags)
    both = [expected(name, flags[:, k], values[:, k]) for k in (0, 1)]
    assert score(np.ones((1, 60)))[0] == pytest.approx(np.mean(both))


def test_multi_label_s_average_precision_is_its_mean_average_precision():
    flags = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    outputs = np.hstack([flags * 0.5 + [[0.3, 0.6], [0.4, 0.1], [0.1, 0.2], [0.5, 0.3]], flags])
    scorer, once = LabelsScorer(), np.ones((1, 4))
    mean = scorer.formula("mean_average_precision", flags)(outputs, flags)(once)
    assert scorer.formula("average_precision", flags)(outputs, flags)(once) == mean


def test_a_row_of_nan_ranks_below_every_other():
    shares, truth = np.array([[0.4, 0.6], [np.nan, np.nan], [0.7, 0.3]]), np.array([1, 1, 0])
    score = ClassScorer().formula("auroc", truth)(shares, truth)
    assert score(np.ones((1, 3)))[0] == 0.5


@pytest.mark.parametrize(
    "name", ["recall_0_precision", "recall_0.95_precision", "recall_100_precision", "auc", "f1"]
)
def test_other_names_are_no_scores(name):
    assert ClassScorer().formula(name, [0, 1]) is None


@pytest.mark.parametrize("name", NAMES)
def test_rows_without_a_positive_one_have_no_score(name):
    shares, _ = predictions(5)
    truth = np.zeros(len(shares), int)
    score = ClassScorer().formula(name, truth)(shares, truth)
    assert np.isnan(score(np.ones((2, len(truth))))).all()
    truth[0] = 1  # a draw may still miss it
    score = ClassScorer().formula(name, truth)(shares, truth)
    without = np.ones((1, len(truth)))
    without[0, 0] = 0
    assert score(without) == 0
