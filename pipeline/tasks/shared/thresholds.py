"""Thresholds of labels that exclude each other: a row below that of its label is not decided.

The label of a row is its most probable one. It is given if its probability reaches the label's
threshold; otherwise the row has none, so that someone else may decide it (Chow 1970, "On optimum
recognition error and reject tradeoff"). None as a threshold: the label is never given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rarefy.pipeline.tasks.shared import formulas
from rarefy.pipeline.tasks.shared.formulas import Floats, Labels
from rarefy.pipeline.terms.threshold import Threshold

THRESHOLDS: Final = "thresholds"
"""The key of config.json under which each label's threshold is kept."""
_SLACK: Final = 1e-9  # 95% of 300 rows is 285 rows, whatever the rounding


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
    for label in range(probabilities.shape[1]):
        given = predicted == label
        values, correct = probabilities[given, label], true[given] == label
        order = np.argsort(-values, kind="stable")
        values, hits = values[order], np.cumsum(correct[order])
        if threshold.precision is not None:
            limits.append(_for_precision(values, hits, threshold.precision))
        else:
            needed = (threshold.recall or 0.0) * int((true == label).sum())
            limits.append(_for_recall(values, hits, needed))
    return limits


def undecided(
    probabilities: Floats, labels: Sequence[str], limits: Mapping[str, float | None]
) -> NDArray[np.bool_]:
    """Return which rows are below the threshold of their most probable label, (rows,).

    Args:
        probabilities: (rows, labels); a row with NaN is not decided.
        labels: the names of the columns.
        limits: the threshold of each label.
    """
    least = [limits.get(label) for label in labels]
    by_label = np.array([np.inf if limit is None else limit for limit in least])
    predicted = formulas.answers(probabilities)
    highest = probabilities.max(axis=1)
    return np.asarray((predicted < 0) | ~(highest >= by_label[predicted]))


def _for_precision(values: Floats, hits: Labels, precision: float) -> float | None:
    """Return the lowest threshold of a precision; ``values`` fall, ``hits`` are correct so far."""
    given = np.arange(1, len(values) + 1)
    reached = hits >= (precision - _SLACK) * given
    allowed = np.flatnonzero(reached & _is_last(values))
    return _below(values, int(allowed[-1])) if len(allowed) else None


def _for_recall(values: Floats, hits: Labels, needed: float) -> float:
    """Return the highest threshold at which ``needed`` of the label's rows have it."""
    enough = np.flatnonzero((hits >= needed - _SLACK) & _is_last(values))
    return _below(values, int(enough[0])) if len(enough) else 0.0


def _is_last(values: Floats) -> NDArray[np.bool_]:
    """Return which of falling values are the last of equal ones: a threshold has all or none."""
    return np.append(values[1:] != values[:-1], True)[: len(values)]


def _below(values: Floats, last: int) -> float:
    """Return a threshold between a value and the next lower one; 0 below all."""
    if last + 1 == len(values):
        return 0.0
    half_way = float(values[last] + values[last + 1]) / 2
    # Between neighbours in floating point there is nothing half way.
    return half_way if half_way > values[last + 1] else float(values[last])
