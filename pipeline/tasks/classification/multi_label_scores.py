"""Multi-label classification: any number of labels per row, each with its own threshold.

``outputs``: rows × 2L, the probabilities of L labels and then the decisions (0 or 1) that the
model's thresholds make of them. ``truth``: rows × L of 0 and 1. A row answered NaN has all its
decisions wrong and ranks below every other row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from rarefy.pipeline.tasks.shared import formulas
from rarefy.pipeline.tasks.shared.formulas import Floats, Formula, Labels, Score
from rarefy.pipeline.tasks.shared.means import ratio

FALLBACK = 0.5
"""The threshold of a label that the development split has no example of."""
_SLACK = 1e-9  # a budget of 1 % of 300 rows is three rows, whatever the rounding

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
            found, flagged = curve(by_row)
            positives = np.cumsum(found, axis=0)
            precision = np.divide(positives, flagged, out=np.zeros_like(flagged), where=flagged > 0)
            whole, any_found = positives[-1], positives[-1] > 0
            area = np.einsum("vd,vd->d", found, precision)
            total += np.divide(area, whole, out=np.zeros_like(whole), where=any_found)
            occurring += any_found
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
                best, whole = _found(curve, by_row, false_positives)
                total += np.divide(best, whole, out=np.zeros_like(whole), where=whole > 0)
                occurring += whole > 0
            return _over(total, occurring)

        return score

    return formula


def recalls_at(false_positives: float, outputs: Floats, truth: ArrayLike) -> Floats:
    """Return each label's recall at a false-positive budget; NaN for a label that never occurs."""
    curves = _curves(outputs, truth)
    found = [_found(curve, np.ones((len(outputs), 1)), false_positives) for curve in curves]
    return np.array([best[0] / whole[0] if whole[0] else np.nan for best, whole in found])


def nats(ours: Floats, theirs: Floats) -> Floats:
    """Return for each row Σ over labels of KL(theirs ‖ ours) of yes or no, in nats.

    ``ours`` and ``theirs``: probabilities, rows × L.
    """
    sides = ((theirs, ours), (1 - theirs, 1 - ours))
    summed: Floats = sum(formulas.relative(p, q).sum(axis=1) for p, q in sides)
    return np.clip(summed, 0, None)


def thresholds(probabilities: Floats, truth: Labels) -> Floats:
    """Return the threshold of each label that maximizes its F1: flagged if p ≥ threshold.

    ``probabilities`` and ``truth``: rows × L of a development split. A threshold stands half way
    between two neighbouring probabilities (the lowest half way to 0). Of thresholds with the same
    F1, the one nearest to ``FALLBACK`` is taken, and of two as near the higher. A label without
    positive rows gets ``FALLBACK``: every threshold has F1 0 there, and the rule would be noise
    (Lipton, Elkan and Naryanaswamy 2014, "Optimal thresholding of classifiers to maximize F1").
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
    cuts = (values + np.append(values[1:], 0.0)) / 2
    cuts = np.where(
        cuts > np.append(values[1:], -1.0), cuts, values
    )  # neighbours in floating point
    best = cuts[f1 >= f1.max() * (1 - 1e-12)]
    return float(min(best, key=lambda cut: (abs(cut - FALLBACK), -cut)))


def _decided(outputs: Floats, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return rows × labels: which labels are rightly found, and which decisions are wrong."""
    truth = np.asarray(truth)
    decisions = outputs[:, truth.shape[1] :]
    return (decisions == 1) & (truth == 1), decisions != truth


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
    reached = np.unique(-values[true])  # distinct, the highest first
    ends = np.append(np.searchsorted(-values[order], reached, "right"), len(order)) - 1
    true_ends = np.append(np.searchsorted(-values[true], reached, "right"), len(true)) - 1

    positives, rows = (
        csr_array((np.ones(len(at)), at, np.append(0, last + 1)), shape=(len(last), len(order)))
        for at, last in ((true, true_ends), (order, ends))
    )

    def curve(by_row: Floats) -> tuple[Floats, Floats]:
        return positives @ by_row, np.cumsum(rows @ by_row, axis=0)

    return curve


def _found(curve: Curve, by_row: Floats, false_positives: float) -> tuple[Floats, Floats]:
    """Return the weight of a label's rows that the budget lets be found, and of all its rows."""
    found, flagged = curve(by_row)
    positives = np.cumsum(found, axis=0)
    negatives = flagged - positives
    allowed = negatives <= (false_positives + _SLACK) * negatives[-1]
    return np.where(allowed, positives, 0.0).max(axis=0), positives[-1]


def _over(total: Floats, occurring: Floats) -> Floats:
    found: Floats = np.divide(total, occurring, out=np.zeros_like(total), where=occurring > 0)
    return found
