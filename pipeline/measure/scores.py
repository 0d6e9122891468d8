"""A score with its bounds, alone and against a reference on the same rows: what budgets look at.

Accuracy has score intervals (Wilson's, Tango's). Any other score has a bootstrap over rows, which
knows nothing where nothing differs: thirty right answers, resampled, are always right. So no
score's bounds lie nearer to it than accuracy's own lie to accuracy, at what a row weighs there.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.measure import statistics
from pipeline.measure.statistics import SEED, Bootstrap
from pipeline.stage import formulas
from pipeline.stage.formulas import Floats, Formula
from pipeline.terms import metrics
from pipeline.terms.interval import Interval

HALF_A_ROW = 0.5
"""The continuity correction of one-sided bounds.

Without it a drop of just the margin passes up to 6 % of the time where few rows differ; with it
at most 5 % (``benchmarks/coverage.py`` sums over all tables).
"""

Z90 = 1.645
"""Normal quantile of the ends of a 90 % interval."""


def alone(
    name: str,
    probabilities: Floats,
    truth: NDArray[np.int64],
    seed: int = SEED,
    formula: Formula | None = None,
) -> Interval:
    """Return a score with its 95 % interval; ``formula``: that of a score not in ``FORMULAS``.

    ``probabilities``: rows × labels, ``truth``: the index of each row's label. A row answered NaN
    is wrong; the calibration error of such answers is NaN.
    """
    right = int(np.sum(formulas.answers(probabilities) == truth))
    accuracy = statistics.wilson(right, len(truth))
    if name == "accuracy":
        return accuracy
    score = (formula or formulas.FORMULAS[name])(probabilities, truth)
    wide = _no_surer(statistics.bootstrap(score, len(truth), seed), accuracy)
    low, high = wide.low, wide.high
    if name == "ece":  # an error: what rows that few may hide lies above it
        low = _least_error(probabilities, truth, accuracy, seed)
        high = max(high, wide.value + accuracy.value - accuracy.low)
    if metrics.known(name).unit == "%":
        low, high = max(low, 0.0), min(high, 1.0)
    return Interval(wide.value, low, high)


def compare(
    name: str, ours: Floats, theirs: Floats, truth: NDArray[np.int64], seed: int = SEED
) -> Bootstrap:
    """Return accuracy or macro_f1 of candidate and reference on the same rows.

    Not ece: chance adds to both errors, and so pulls their ratio towards one.

    Of a reference that scores 0 the ratio is infinite or NaN.
    """
    gains, losses = flips(*(formulas.answers(side) == truth for side in (ours, theirs)))
    two_sided = statistics.paired_difference(gains, losses, len(truth))
    one_sided = statistics.paired_difference(gains, losses, len(truth), 0.90, HALF_A_ROW)
    drawn, base = _resampled(formulas.FORMULAS[name], ours, theirs, truth, seed)
    difference, difference90 = two_sided, one_sided
    if name != "accuracy":
        weight = _weight(drawn, gains, losses, len(truth))
        difference = _no_surer(drawn.difference, two_sided, weight)
        difference90 = _no_surer(drawn.difference90, one_sided, weight)
    if base == 0:
        return Bootstrap(difference, drawn.ratio, difference90, drawn.ratio90)
    return Bootstrap(
        difference,
        _wider(drawn.ratio, *(1 + bound / base for bound in difference[1:])),
        difference90,
        _wider(drawn.ratio90, *(1 + bound / base for bound in difference90[1:])),
    )


def agreement(ours: Floats, theirs: Floats) -> Interval:
    """Return the share of rows that two models answer alike, with its 95 % interval."""
    same = formulas.answers(ours) == formulas.answers(theirs)
    return statistics.wilson(int(same.sum()), len(same))


def flips(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the rows that only we have right, and those that only they have."""
    return int(np.sum(ours & ~theirs)), int(np.sum(theirs & ~ours))


def _least_error(
    probabilities: Floats, truth: NDArray[np.int64], accuracy: Interval, seed: int
) -> float:
    """Return a lower bound of the calibration error: that of accuracy − mean confidence.

    By chance alone every bin's share differs from its confidence, so the measured error is above
    the true one, and so is its bootstrap. The gap of the means has no such bias, and by the
    triangle inequality the true error is no smaller.
    """
    gap = (formulas.answers(probabilities) == truth) - probabilities.max(axis=1)
    mean_gap = statistics.bootstrap(lambda w: w @ gap / w.sum(axis=1), len(truth), seed)
    mean_gap = _no_surer(mean_gap, accuracy)
    return max(mean_gap.low, -mean_gap.high)


def _weight(drawn: Bootstrap, gains: int, losses: int, rows: int) -> float:
    """Return how much more a flip moves a score than it moves accuracy, and no less than 1.

    The ratio of the standard errors of both differences: the bootstrap's, and accuracy's own.
    """
    variance = (gains + losses) / rows - ((gains - losses) / rows) ** 2
    if variance <= 0:
        return 1.0
    _, low, high = drawn.difference90
    return max(1.0, (high - low) / (2 * Z90) / math.sqrt(variance / rows))


def _resampled(
    metric: Formula,
    ours: Floats,
    theirs: Floats,
    truth: NDArray[np.int64],
    seed: int,
) -> tuple[Bootstrap, float]:
    """Return the paired bootstrap of a score of answers, and the reference's score.

    Rows with the same truth and answers are alike, so it is drawn how often each kind of row
    comes: the same distribution as row by row, in a fraction of the time.
    """
    answers = [formulas.answers(side) for side in (ours, theirs)]
    kinds, counts = np.unique(np.stack([truth, *answers]), axis=1, return_counts=True)
    labels = ours.shape[1]
    certain = np.vstack([np.eye(labels), np.full(labels, np.nan)])  # answers() gives −1: no number
    scores = [metric(certain[kind], kinds[0]) for kind in kinds[1:]]
    draws = np.random.default_rng(seed).multinomial(
        len(truth), counts / len(truth), statistics.RESAMPLES
    )
    first, second = (float(score(counts[None].astype(float))[0]) for score in scores)
    ours, theirs = (score(draws.astype(float)) for score in scores)
    return statistics.paired(ours, theirs, (first, second)), second


def _no_surer(interval: Interval, accuracy: Interval, weight: float = 1.0) -> Interval:
    """Widen a score's bounds to be at least ``weight`` times as far from it as accuracy's are."""
    low, high = (weight * (bound - accuracy.value) for bound in accuracy[1:])
    return _wider(interval, interval.value + low, interval.value + high)


def _wider(interval: Interval, low: float, high: float) -> Interval:
    return Interval(interval.value, min(interval.low, low), max(interval.high, high))
