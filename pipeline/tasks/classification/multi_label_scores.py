"""Multi-label classification: any number of labels per row, each with its own threshold.

``outputs``: the probabilities of L labels and then the decisions (0 or 1) that the model's
thresholds make of them, (rows, 2L). ``truth``: 0 and 1, (rows, L). A row of NaN has all its
decisions wrong and ranks below every other row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rarefy.pipeline.tasks.shared import formulas
from rarefy.pipeline.tasks.shared.formulas import Floats, Formula, Labels, Score
from rarefy.pipeline.tasks.shared.means import ratio

FALLBACK = 0.5
"""The threshold of a label that the development split has no example of."""
_SLACK = 1e-9  # a budget of 1% of 300 rows is three rows, whatever the rounding

Curve = Callable[[Floats], tuple[Floats, Floats]]
"""Maps row weights (rows × draws) to two tables of values × draws.

They hold the weight of positive rows at each distinct value, and of all rows down to it. Only
values of positive rows are there, because recall changes at no other; then all rows.
"""


def micro_f1(outputs: Floats, truth: ArrayLike) -> Score:
    """Return the F1 of all decisions together as a function of row weights."""
    hit, wrong = _decided(outputs, truth)
    hits = 2.0 * hit.sum(axis=1)
    return ratio(hits, hits + wrong.sum(axis=1))


def macro_f1(outputs: Floats, truth: ArrayLike) -> Score:
    """Return the mean F1 over the labels that occur or are given, by row weights."""
    return formulas.mean_f1(*_decided(outputs, truth))


def subset_accuracy(outputs: Floats, truth: ArrayLike) -> Score:
    """Return the share of rows with every label right as a function of row weights."""
    _, wrong = _decided(outputs, truth)
    return formulas.share(np.asarray(~wrong.any(axis=1)))


def mean_average_precision(outputs: Floats, truth: ArrayLike) -> Score:
    """Return the average precision of each label, averaged over the labels that occur.

    Average precision is Σ (R_k − R_(k−1)) P_k over the distinct probabilities (as scikit-learn's
    ``average_precision_score``). Needs memory for a few times draws × rows.
    """
    curves = _curves(outputs, truth)

    def score(weights: Floats) -> Floats:
        by_row = np.ascontiguousarray(weights.T)
        total, occurring = np.zeros(len(weights)), np.zeros(len(weights))
        for curve in curves:
            at_value, flagged = curve(by_row)
            positives = np.cumsum(at_value, axis=0)
            precision = _over(positives, flagged)
            every = positives[-1]
            area = np.einsum("vd,vd->d", at_value, precision)
            total += _over(area, every)
            occurring += every > 0
        return _over(total, occurring)

    return score


def recall_at(false_positives: float) -> Formula:
    """Return the score "recall at a false-positive budget".

    It is the largest recall of a threshold at which at most the share ``false_positives`` of the
    rows without the label are flagged, averaged over the labels that occur.
    """

    def formula(outputs: Floats, truth: ArrayLike) -> Score:
        curves = _curves(outputs, truth)

        def score(weights: Floats) -> Floats:
            by_row = np.ascontiguousarray(weights.T)
            total, occurring = np.zeros(len(weights)), np.zeros(len(weights))
            for curve in curves:
                hits, every = _hits(curve, by_row, false_positives)
                total += _over(hits, every)
                occurring += every > 0
            return _over(total, occurring)

        return score

    return formula


def recalls_at(false_positives: float, outputs: Floats, truth: ArrayLike) -> Floats:
    """Return each label's recall at a false-positive budget; NaN for a label that never occurs."""
    once = np.ones((len(outputs), 1))
    recalls = []
    for curve in _curves(outputs, truth):
        hits, every = _hits(curve, once, false_positives)
        recalls.append(hits[0] / every[0] if every[0] else np.nan)
    return np.array(recalls)


def nats(ours: Floats, theirs: Floats) -> Floats:
    """Return for each row Σ over labels of KL(theirs ‖ ours) of yes or no, in nats.

    Args:
        ours: probabilities, (rows, L).
        theirs: probabilities, (rows, L).
    """
    of_yes: Floats = formulas.relative(theirs, ours).sum(axis=1)
    of_no: Floats = formulas.relative(1 - theirs, 1 - ours).sum(axis=1)
    return np.clip(of_yes + of_no, 0, None)


def thresholds(probabilities: Floats, truth: Labels) -> Floats:
    """Return the threshold of each label that maximizes its F1: flagged if p ≥ threshold.

    A threshold stands half way between two neighbouring probabilities (the lowest half way to 0).
    Of thresholds with the same F1, the one nearest to ``FALLBACK`` is taken, and of two as near the
    higher. A label without positive rows gets ``FALLBACK``: every threshold has F1 0 there, and the
    rule would be noise (Lipton, Elkan and Naryanaswamy 2014, "Optimal thresholding of classifiers
    to maximize F1").

    Args:
        probabilities: of a development split, (rows, L).
        truth: 0 and 1, (rows, L).
    """
    columns = zip(np.nan_to_num(probabilities).T, truth.T, strict=True)
    return np.array([_threshold(*column) for column in columns])


def _threshold(probabilities: Floats, truth: Labels) -> float:
    if not truth.any():
        return FALLBACK
    values, inverse = np.unique(-probabilities, return_inverse=True)
    values = -values  # distinct, the highest first
    hits = np.cumsum(np.bincount(inverse, truth, len(values)))
    flagged = np.cumsum(np.bincount(inverse, minlength=len(values)))
    f1 = 2 * hits / (flagged + truth.sum())
    half_way = (values + np.append(values[1:], 0.0)) / 2
    # Between neighbours in floating point there is nothing half way.
    is_between = half_way > np.append(values[1:], -1.0)
    cuts = np.where(is_between, half_way, values)
    best = cuts[f1 >= f1.max() * (1 - 1e-12)]
    return float(min(best, key=lambda cut: (abs(cut - FALLBACK), -cut)))


def _decided(outputs: Floats, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return which labels are hit, and which decisions are wrong, (rows, labels) both."""
    truth = np.asarray(truth)
    decisions = outputs[:, truth.shape[1] :]
    hit = (decisions == 1) & (truth == 1)
    return hit, decisions != truth


def _curves(outputs: Floats, truth: ArrayLike) -> list[Curve]:
    truth = np.asarray(truth)
    probabilities = outputs[:, : truth.shape[1]]
    ranked = np.where(np.isnan(probabilities), -np.inf, probabilities)
    return [_curve(*column) for column in zip(ranked.T, truth.T, strict=True)]


def _curve(values: Floats, truth: Labels) -> Curve:
    """Return the curve of a label from its values and 0 or 1 of each row.

    The rows between two values are summed by a sparse matrix of values × rows, for all draws of a
    row at once: to gather each draw's weights in the order of the values takes ten times as long.
    """
    from scipy.sparse import csr_array

    order = np.argsort(-values, kind="stable")
    true = order[truth[order] == 1]
    distinct = np.unique(-values[true])  # the highest first

    def sums(rows: Labels) -> Any:
        """Return what sums rows between two of the values: (values + 1, all rows)."""
        ends = np.searchsorted(-values[rows], distinct, "right")
        bounds = np.concatenate([[0], ends, [len(rows)]])
        shape = (len(bounds) - 1, len(order))
        return csr_array((np.ones(len(rows)), rows, bounds), shape=shape)

    positives, all_rows = sums(true), sums(order)

    def curve(by_row: Floats) -> tuple[Floats, Floats]:
        return positives @ by_row, np.cumsum(all_rows @ by_row, axis=0)

    return curve


def _hits(curve: Curve, by_row: Floats, false_positives: float) -> tuple[Floats, Floats]:
    """Return the weight of a label's rows that the budget lets be flagged, and of all its rows."""
    at_value, flagged = curve(by_row)
    positives = np.cumsum(at_value, axis=0)
    negatives = flagged - positives
    allowed = negatives <= (false_positives + _SLACK) * negatives[-1]
    return np.where(allowed, positives, 0.0).max(axis=0), positives[-1]


def _over(numerator: Floats, denominator: Floats) -> Floats:
    """Return a ratio; 0 where the denominator is not positive."""
    zeros = np.zeros_like(numerator)
    ratio: Floats = np.divide(numerator, denominator, out=zeros, where=denominator > 0)
    return ratio
