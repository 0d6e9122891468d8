"""Scores of one label against the rest, by how its probability ranks the rows; means over labels.

Of two labels that exclude each other, the last is the positive one, and its score is the whole. A
value that is NaN ranks below every other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rarefy.pipeline.tasks.shared.curves import curve, over
from rarefy.pipeline.tasks.shared.formulas import SLACK, Floats, Formula, Labels, Score
from rarefy.pipeline.tasks.shared.means import undefined
from rarefy.pipeline.terms import metrics

Parts = Callable[[Floats], tuple[Floats, Floats]]
"""Maps row weights (rows × draws) to a label's numerator and denominator; 0: it has no score."""
Measure = Callable[[Floats, Labels], Parts]
"""Maps the values of a label and 0 or 1 of each row to its score."""
Columns = Callable[[Floats, Any], Iterable[tuple[Floats, Labels]]]
"""Maps a task's answers and truth to the values, and 0 or 1 of each row, of each label."""


def formula(name: str, columns: Columns) -> Formula | None:
    """Return the score of a name, as the mean over labels.

    None if it is none of ``formulas.OF_EACH_LABEL``, with any percentage in its name.
    """
    precision = metrics.precision_in(name)
    if precision:
        return macro(recall_at_precision(precision), columns)
    measure = {"auroc": auroc, "average_precision": average_precision}.get(name)
    return macro(measure, columns) if measure else None


def macro(measure: Measure, columns: Columns) -> Formula:
    """Return the mean of a measure over the labels that have one; NaN if on all rows none has."""

    def of_answers(outputs: Floats, truth: Any) -> Score:
        labels = [measure(*column) for column in columns(outputs, truth)]
        once = np.ones((len(outputs), 1))
        if not any(label(once)[1] > 0 for label in labels):
            return undefined

        def score(weights: Floats) -> Floats:
            by_row = np.ascontiguousarray(weights.T)
            total, occurring = np.zeros(len(weights)), np.zeros(len(weights))
            for label in labels:
                part, whole = label(by_row)
                total += over(part, whole)
                occurring += whole > 0
            return over(total, occurring)

        return score

    return of_answers


def classes(outputs: Floats, truth: Any) -> list[tuple[Floats, Labels]]:
    """Return the columns of labels that exclude each other: of two, the last one's alone."""
    count = outputs.shape[1]
    true = np.asarray(truth)
    flags = true[:, None] == np.arange(count)
    first = 1 if count == 2 else 0
    return of_flags(outputs[:, first:], flags[:, first:])


def of_flags(values: Floats, flags: Any) -> list[tuple[Floats, Labels]]:
    """Return the columns of labels, from a value and a flag of each row and label."""
    ranked = np.where(np.isnan(values), -np.inf, values)
    by_label = np.asarray(flags, dtype=np.int64).T
    return list(zip(ranked.T, by_label, strict=True))


def average_precision(values: Floats, flags: Labels) -> Parts:
    """Return Σ (R_k − R_(k−1)) P_k over the distinct values, as scikit-learn's.

    Needs memory for a few times draws × rows.
    """
    label = curve(values, flags)

    def parts(by_row: Floats) -> tuple[Floats, Floats]:
        at_value, flagged = label(by_row)
        positives = np.cumsum(at_value, axis=0)
        precision = over(positives, flagged)
        return np.einsum("vd,vd->d", at_value, precision), positives[-1]

    return parts


def auroc(values: Floats, flags: Labels) -> Parts:
    """Return the share of pairs in which the positive row has the higher value; ties are half."""
    falling, rising = curve(values, flags), curve(-values, flags)

    def parts(by_row: Floats) -> tuple[Floats, Floats]:
        at_value, down_to = falling(by_row)
        at_rising, up_to = rising(by_row)
        positives = np.cumsum(at_value, axis=0)
        at_least = down_to - positives  # negative rows at a value and above
        at_most = up_to - np.cumsum(at_rising, axis=0)
        negatives = at_least[-1]
        lower = (at_most[-2::-1] + negatives - at_least[:-1]) / 2  # ties are in both
        won = np.einsum("vd,vd->d", at_value[:-1], lower)
        return won, positives[-1] * negatives

    return parts


def recall_at_precision(precision: float) -> Measure:
    """Return the largest recall of a threshold at which the precision is at least this.

    0 if there is no such threshold. The threshold is the best one for these very rows.
    """

    def allowed(positives: Floats, flagged: Floats) -> NDArray[np.bool_]:
        return positives >= (precision - SLACK) * flagged

    return _recall_where(allowed)


def recall_at_false_positives(share: float) -> Measure:
    """Return the largest recall at which at most this share of the negative rows is flagged."""

    def allowed(positives: Floats, flagged: Floats) -> NDArray[np.bool_]:
        negatives = flagged - positives
        few: NDArray[np.bool_] = negatives <= (share + SLACK) * negatives[-1]
        return few

    return _recall_where(allowed)


def _recall_where(allowed: Callable[[Floats, Floats], NDArray[np.bool_]]) -> Measure:
    """Return the largest recall of the thresholds that are allowed.

    ``allowed``: of the weight of the positive rows, and of all rows, that a threshold flags.
    """

    def measure(values: Floats, flags: Labels) -> Parts:
        label = curve(values, flags)

        def parts(by_row: Floats) -> tuple[Floats, Floats]:
            at_value, flagged = label(by_row)
            positives = np.cumsum(at_value, axis=0)
            reached = np.where(allowed(positives, flagged), positives, 0.0)
            return reached.max(axis=0), positives[-1]

        return parts

    return measure
