"""Multi-label classification: any number of labels per row, each with its own threshold.

``outputs``: the probabilities of L labels and then the decisions (0 or 1) that the model's
thresholds make of them, (rows, 2L). ``truth``: 0 and 1, (rows, L). A row of NaN has all its
decisions wrong and ranks below every other row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rarefy.pipeline.tasks.shared import formulas, one_vs_rest
from rarefy.pipeline.tasks.shared.formulas import Floats, Formula, Labels, Score
from rarefy.pipeline.tasks.shared.means import ratio

FALLBACK = 0.5
"""The threshold of a label that the development split has no example of."""


def micro_f1(outputs: Floats, truth: ArrayLike) -> Score:
    """Return the F1 of all decisions together as a function of row weights."""
    hit, wrong = _decided(outputs, truth)
    hits = 2.0 * hit.sum(axis=1)
    mistakes = wrong.sum(axis=1)
    return ratio(hits, hits + mistakes)


def macro_f1(outputs: Floats, truth: ArrayLike) -> Score:
    """Return the mean F1 over the labels that occur or are given, by row weights."""
    return formulas.mean_f1(*_decided(outputs, truth))


def subset_accuracy(outputs: Floats, truth: ArrayLike) -> Score:
    """Return the share of rows with every label right as a function of row weights."""
    _, wrong = _decided(outputs, truth)
    right = np.asarray(~wrong.any(axis=1))
    return formulas.share(right)


def columns(outputs: Floats, truth: ArrayLike) -> list[tuple[Floats, Labels]]:
    """Return the probability and 0 or 1 of each row, for each label; see ``one_vs_rest``."""
    flags = np.asarray(truth)
    return one_vs_rest.of_flags(outputs[:, : flags.shape[1]], flags)


mean_average_precision = one_vs_rest.macro(one_vs_rest.average_precision, columns)
"""The average precision of each label, averaged over the labels that occur."""


def recall_at(false_positives: float) -> Formula:
    """Return the score "recall at a false-positive budget".

    It is the largest recall of a threshold at which at most the share ``false_positives`` of the
    rows without the label are flagged, averaged over the labels that occur.
    """
    return one_vs_rest.macro(one_vs_rest.recall_at_false_positives(false_positives), columns)


def recalls_at(false_positives: float, outputs: Floats, truth: ArrayLike) -> Floats:
    """Return each label's recall at a false-positive budget; NaN for a label that never occurs."""
    once = np.ones((len(outputs), 1))
    measure = one_vs_rest.recall_at_false_positives(false_positives)
    recalls = []
    for values, flags in columns(outputs, truth):
        parts = measure(values, flags)
        (hits,), (every,) = parts(once)
        recall = hits / every if every else np.nan
        recalls.append(recall)
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
    count = len(values)
    hits_at = np.bincount(inverse, truth, count)
    flagged_at = np.bincount(inverse, minlength=count)
    hits, flagged = np.cumsum(hits_at), np.cumsum(flagged_at)
    f1 = 2 * hits / (flagged + truth.sum())
    lower = np.append(values[1:], 0.0)
    half_way = (values + lower) / 2
    # Between neighbours in floating point there is nothing half way.
    lower[-1] = -1.0
    is_between = half_way > lower
    cuts = np.where(is_between, half_way, values)
    enough = f1.max() * (1 - 1e-12)
    best = cuts[f1 >= enough]
    nearest = min(best, key=lambda cut: (abs(cut - FALLBACK), -cut))
    return float(nearest)


def _decided(outputs: Floats, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return which labels are hit, and which decisions are wrong, (rows, labels) both."""
    truth = np.asarray(truth)
    decisions = outputs[:, truth.shape[1] :]
    hit = (decisions == 1) & (truth == 1)
    return hit, decisions != truth
