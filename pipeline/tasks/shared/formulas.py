"""Scores of predictions (rows × labels) against the true labels, for arbitrary row weights.

A formula returns a function of row weights, so the bootstrap can evaluate thousands of resamples at
once. With all weights equal to one, the function returns the score itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Score = Callable[[Floats], Floats]
"""A metric as a function of row weights: draws × rows -> draws."""
Formula = Callable[[Floats, Any], Score]
"""Maps a task's answers (units × columns) and its truth, a list, to a score."""
OF_EACH_LABEL: Final = ("auroc", "average_precision", "recall_95_precision")
"""Scores of one label against the rest (``one_vs_rest``); the last with any percentage."""
BINS = 15
LEAST = 5e-8
"""Half of the last decimal of stored probabilities."""
SLACK: Final = 1e-9
"""What a share may miss by rounding: 95% of 300 rows is 285 rows."""


def share(rows: NDArray[np.bool_]) -> Score:
    """Return the fraction of rows that are True, as a function of row weights."""
    counted = rows.astype(float)
    return lambda weights: weights @ counted / weights.sum(axis=1)


def relative(near: Floats, far: Floats) -> Floats:
    """Return near · ln(near / far) of probabilities, whose sum is a divergence in nats.

    They are rounded, so one below half of the last decimal counts as that half.
    """
    floored = np.clip(near, LEAST, None)
    divergence: Floats = near * np.log(floored / np.clip(far, LEAST, None))
    return divergence


def accuracy(probabilities: Floats, truth: ArrayLike) -> Score:
    """Return accuracy as a function of row weights. A row with NaN counts as wrong."""
    return share(answers(probabilities) == np.asarray(truth))


def macro_f1(probabilities: Floats, truth: ArrayLike) -> Score:
    """Return the mean F1 over the labels that occur or are answered, by row weights."""
    labels = np.arange(probabilities.shape[1])
    answered = answers(probabilities)[:, None] == labels
    true = np.asarray(truth)[:, None]
    correct = true == labels
    return mean_f1(answered & correct, answered != correct)


def mean_f1(hit: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> Score:
    """Return the mean F1 over the labels that occur or are given in a draw; 0 without any.

    The F1 of a label that neither occurs nor is given is 0/0, which says nothing about the answers.

    Args:
        hit: which labels are rightly found, (rows, labels).
        wrong: which labels are wrongly given, or missed, (rows, labels).
    """
    hit_counts, wrong_counts = hit.astype(float), wrong.astype(float)

    def score(weights: Floats) -> Floats:
        twice = 2 * (weights @ hit_counts)
        either = twice + weights @ wrong_counts
        occurs = either > 0
        f1 = np.divide(twice, either, out=np.zeros_like(twice), where=occurs)
        labels = np.maximum(occurs.sum(axis=1), 1)
        mean: Floats = f1.sum(axis=1) / labels
        return mean

    return score


def ece(probabilities: Floats, truth: ArrayLike) -> Score:
    """Return expected calibration error (15 bins, Guo et al. 2017) as a function of row weights."""
    gap_by_bin = _gaps(probabilities, truth)

    def score(weights: Floats) -> Floats:
        gaps = np.abs(weights @ gap_by_bin)
        error: Floats = gaps.sum(axis=1) / weights.sum(axis=1)
        return error

    return score


def _gaps(probabilities: Floats, truth: ArrayLike) -> Floats:
    """Return each row's correctness − confidence, in the column of its bin, (rows, bins)."""
    confidence = probabilities.max(axis=1)
    bins = (confidence * BINS).astype(int)
    bins = np.minimum(bins, BINS - 1)
    in_bin = bins[:, None] == np.arange(BINS)
    correct = answers(probabilities) == np.asarray(truth)
    gap = correct - confidence
    gaps: Floats = gap[:, None] * in_bin
    return gaps


def ece_of_noise(probabilities: Floats, truth: ArrayLike, groups: Sequence[int] = ()) -> float:
    """Return about what ``ece`` would be if the true error were 0, of as many rows.

    It is the mean size of each bin's sum of gaps whose signs are random, √(2/π · Σ gap²). Rows of a
    group have one sign.

    Args:
        probabilities: (rows, labels).
        truth: the class of each row.
        groups: the group of each row; empty if each is its own.
    """
    gap_by_bin = _gaps(probabilities, truth)
    if len(groups):
        _, number = np.unique(groups, return_inverse=True)
        of_groups = np.zeros((number.max() + 1, BINS))
        np.add.at(of_groups, number, gap_by_bin)
        gap_by_bin = of_groups
    squares = (gap_by_bin**2).sum(axis=0)
    sizes = np.sqrt(2 / np.pi * squares)
    return float(sizes.sum() / len(probabilities))


def answers(probabilities: Floats) -> Labels:
    """Return the predicted label of each row, or -1 if the row has a value that is not finite."""
    finite = np.asarray(np.isfinite(probabilities).all(axis=1))
    comparable = np.where(finite[:, None], probabilities, 0)
    highest = comparable.argmax(axis=1)
    return np.where(finite, highest, -1)


FORMULAS: Final[dict[str, Formula]] = {"accuracy": accuracy, "macro_f1": macro_f1, "ece": ece}
"""The scores for tasks with one label per row."""
