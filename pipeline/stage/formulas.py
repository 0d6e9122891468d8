"""Scores of predictions (rows × labels) against the true labels, for arbitrary row weights.

A formula returns a function of row weights, so the bootstrap can evaluate thousands of resamples at
once. With all weights equal to one, the function returns the score itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Score = Callable[[Floats], Floats]
"""A metric as a function of row weights: draws × rows -> draws."""
Formula = Callable[[Floats, Any], Score]
"""Maps a task's answers (units × columns) and its truth, a list, to a score."""
BINS = 15
LEAST = 5e-8
"""Half of the last decimal of stored probabilities."""


def share(rows: NDArray[np.bool_]) -> Score:
    """Return the fraction of rows that are True, as a function of row weights."""
    counted = rows.astype(float)
    return lambda weights: weights @ counted / weights.sum(axis=1)


def relative(near: Floats, far: Floats) -> Floats:
    """Return near · ln(near / far) of probabilities, whose sum is a divergence in nats.

    They are rounded, so one below half of the last decimal counts as that half.
    """
    found: Floats = near * np.log(np.clip(near, LEAST, None) / np.clip(far, LEAST, None))
    return found


def accuracy(probabilities: Floats, truth: ArrayLike) -> Score:
    """Return accuracy as a function of row weights. A row with NaN counts as wrong."""
    return share(answers(probabilities) == np.asarray(truth))


def macro_f1(probabilities: Floats, truth: ArrayLike) -> Score:
    """Return the mean F1 over the labels that occur or are answered, by row weights."""
    answer, truth = answers(probabilities), np.asarray(truth)
    labels = np.arange(probabilities.shape[1])
    given, true = answer[:, None] == labels, truth[:, None] == labels
    return mean_f1(given & true, given != true)


def mean_f1(hit: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> Score:
    """Return the mean F1 over the labels that occur or are given in a draw; 0 without any.

    The F1 of a label that neither occurs nor is given is 0/0, which says nothing about the answers.
    ``hit``: which labels are rightly found; ``wrong``: which are wrongly given, or missed. Both are
    rows × labels.
    """
    right, other = hit.astype(float), wrong.astype(float)

    def score(weights: Floats) -> Floats:
        hits, errors = weights @ right, weights @ other
        either = 2 * hits + errors
        f1 = np.divide(2 * hits, either, out=np.zeros_like(hits), where=either > 0)
        mean: Floats = f1.sum(axis=1) / np.maximum((either > 0).sum(axis=1), 1)
        return mean

    return score


def ece(probabilities: Floats, truth: ArrayLike) -> Score:
    """Return expected calibration error (15 bins, Guo et al. 2017) as a function of row weights."""
    confidence = probabilities.max(axis=1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gap = (answers(probabilities) == np.asarray(truth)) - confidence
    by_bin = gap[:, None] * (bins[:, None] == np.arange(BINS))
    return lambda weights: np.abs(weights @ by_bin).sum(axis=1) / weights.sum(axis=1)


def answers(probabilities: Floats) -> Labels:
    """Return the predicted label of each row, or -1 if the row has a value that is not finite."""
    finite = np.asarray(np.isfinite(probabilities).all(axis=1))
    return np.where(finite, np.where(finite[:, None], probabilities, 0).argmax(axis=1), -1)


FORMULAS: Final[dict[str, Formula]] = {"accuracy": accuracy, "macro_f1": macro_f1, "ece": ece}
"""The scores for tasks with one label per row."""
