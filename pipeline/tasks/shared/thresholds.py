"""Thresholds of labels that exclude each other: a row below that of its label is not decided.

The label of a row is its most probable one. It is given if its probability reaches the label's
threshold; otherwise the row has none, so that someone else may decide it (Chow 1970, "On optimum
recognition error and reject tradeoff"). None as a threshold: the label is never given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rarefy.pipeline.tasks.shared import formulas
from rarefy.pipeline.tasks.shared.formulas import SLACK, Floats, Labels
from rarefy.pipeline.terms.recipe_parts import Threshold


def choose(probabilities: Floats, truth: ArrayLike, threshold: Threshold) -> list[float | None]:
    """Return each label's threshold by the rows of a development split.

    For a precision, the lowest at which that share of the rows with the label is correct, None if
    there is none. For a recall, the highest at which that share of the label's rows has it, 0 if it
    is less without a threshold. A threshold stands half way between two neighbouring probabilities.

    Args:
        probabilities: (rows, labels).
        truth: the label of each row, (rows,).
        threshold: what is required.
    """
    predicted, true = formulas.answers(probabilities), np.asarray(truth)
    limits = []
    count = probabilities.shape[1]
    for label in range(count):
        rows = np.flatnonzero(predicted == label)
        column = probabilities[:, label]
        order = np.argsort(-column[rows], kind="stable")
        ranked = rows[order]
        of_label = true == label
        values = column[ranked]
        hits = np.cumsum(of_label[ranked])
        limit: float | None
        if threshold.precision is not None:
            limit = _for_precision(values, hits, threshold.precision)
        else:
            total = int(of_label.sum())
            needed = total * (threshold.recall or 0.0)
            limit = _for_recall(values, hits, needed)
        limits.append(limit)
    return limits


def undecided(
    probabilities: Floats, labels: Sequence[str], limits: Mapping[str, float | None]
) -> NDArray[np.bool_]:
    """Return which rows are below the threshold of their most probable label, (rows,).

    Args:
        probabilities: (rows, labels); a row with NaN is not decided.
        labels: the names of the columns.
        limits: the threshold of each label; one without is always given.
    """
    least = []
    for label in labels:
        limit = limits.get(label, 0.0)
        if limit is None:
            limit = np.inf
        least.append(limit)
    predicted = formulas.answers(probabilities)
    highest = probabilities.max(axis=1)  # NaN reaches no threshold
    needed = np.array(least)[predicted]
    decided = np.asarray(highest >= needed)
    return ~decided


def _for_precision(values: Floats, hits: Labels, precision: float) -> float | None:
    """Return the lowest threshold of a precision; ``values`` fall, ``hits`` are correct so far."""
    counts = np.arange(len(values)) + 1
    least = precision - SLACK
    reached = hits >= least * counts
    allowed = np.flatnonzero(reached & _is_last(values))
    if not len(allowed):
        return None
    return _below(values, allowed[-1])


def _for_recall(values: Floats, hits: Labels, needed: float) -> float:
    """Return the highest threshold at which ``needed`` of the label's rows have it."""
    reached = hits >= needed - SLACK
    enough = np.flatnonzero(reached & _is_last(values))
    if not len(enough):
        return 0.0
    return _below(values, enough[0])


def _is_last(values: Floats) -> NDArray[np.bool_]:
    """Return which of falling values are the last of equal ones: a threshold has all or none."""
    if not len(values):
        return np.zeros(0, bool)
    changes = values[1:] != values[:-1]
    return np.append(changes, True)


def _below(values: Floats, last: np.int64) -> float:
    """Return a threshold between a value and the next lower one; 0 below all."""
    if last + 1 == len(values):
        return 0.0
    value, lower = values[last], values[last + 1]
    half_way = (value + lower) / 2
    # Between neighbours in floating point there is nothing half way.
    threshold = half_way if half_way > lower else value
    return float(threshold)
