"""Compute the scores that budgets use, with intervals, alone and relative to a reference.

Accuracy has score intervals (Wilson's, Tango's). Other scores that count right rows use a bootstrap
over rows, which has zero width if nothing differs: thirty right answers, resampled, are always
right. So the bounds of a score are never closer to it than accuracy's bounds are to accuracy,
scaled by the weight of a row: in macro F1, a row of a rare label weighs many times as much as
others. Scores that do not count rows have the intervals of ``pipeline.measure.paired``, and so have
all if rows belong to groups: what comes in groups is no independent row, whatever the score. These
allow for one block more that moves the score from one end of its range to the other, so a score
that is 0 in all of n blocks has the rule of three too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.measure import paired, statistics
from pipeline.measure.once import once
from pipeline.measure.statistics import SEED, Bootstrap
from pipeline.stage import formulas
from pipeline.stage.formulas import Floats, Formula, Labels
from pipeline.stage.scoring.means import mean, ratio
from pipeline.stage.tasks import Task
from pipeline.terms import metrics
from pipeline.terms.interval import Interval

HALF_A_ROW = 0.5
"""The continuity correction of one-sided bounds.

Without it, a true drop equal to the margin passes up to 6 % of the time if few rows differ; with
it, at most 5 % (``benchmarks/coverage.py`` sums over all tables).
"""

Z90 = 1.645
"""The normal quantile for a 90 % interval."""


@once
def alone(
    task: Task,
    name: str,
    answers: Floats,
    truth: Sequence[Any],
    seed: int = SEED,
    groups: Sequence[int] = (),
) -> Interval:
    """Return a score with its 95 % interval.

    ``answers``: units × columns; ``truth``: as the task's ``truth`` returns it; ``groups``: as its
    ``groups`` does. A row answered NaN counts as wrong; the calibration error of such answers is
    NaN.
    """
    right = task.scorer.correct(answers, truth)
    accuracy = share(right, seed, groups)
    if name == "accuracy":
        return accuracy
    formula = task.scorer.formulas(truth)[name]
    score, blocks = paired.by_group(formula(answers, truth), groups, len(right))
    heaviest = 0.0 if name == "ece" else _heaviest(task, name, truth, groups, answers)
    if not task.scorer.counted or (len(groups) and name != "ece"):
        return _within(name, paired.alone(score, blocks, seed, heaviest=heaviest))
    drawn = statistics.bootstrap(score, blocks, seed)
    if name != "ece":
        weight = _unseen(1.0, heaviest, int((~right).sum()))
        return _within(name, _no_surer(drawn, accuracy, weight))
    wide = _no_surer(drawn, accuracy)  # an error: with few rows, the true one may be higher
    low = _least_error(answers, right, accuracy, seed, groups)
    high = max(wide.high, wide.value + accuracy.value - accuracy.low)
    return _within(name, Interval(wide.value, low, high))


@once
def share(right: NDArray[np.bool_], seed: int = SEED, groups: Sequence[int] = ()) -> Interval:
    """Return the share of blocks that are right with its 95 % interval: Wilson's without groups."""
    if not len(groups):
        return statistics.wilson(int(right.sum()), len(right))
    score, blocks = paired.by_group(formulas.share(right), groups, len(right))
    heaviest = paired.unevenness(groups)
    return _within("accuracy", paired.alone(score, blocks, seed, heaviest=heaviest))


@once
def compare(
    task: Task,
    name: str,
    ours: Floats,
    theirs: Floats,
    truth: Sequence[Any],
    seed: int = SEED,
    groups: Sequence[int] = (),
) -> Bootstrap:
    """Compare a score of candidate and reference on the same rows; ``groups`` as for ``alone``.

    Not for ece: sampling noise inflates both errors and so biases their ratio towards 1.

    If the reference scores 0, the ratio is infinite or NaN.
    """
    right = [task.scorer.correct(side, truth) for side in (ours, theirs)]
    formula = task.scorer.formulas(truth)[name]
    if not task.scorer.counted or len(groups):
        first, second = (
            paired.by_group(formula(side, truth), groups, len(right[0])) for side in (ours, theirs)
        )
        heaviest = _heaviest(task, name, truth, groups, ours, theirs)
        return _bounded(name, paired.compare(first[0], *second, seed, heaviest=heaviest))
    gains, losses = flips(*right)
    two_sided = statistics.paired_difference(gains, losses, len(truth))
    one_sided = statistics.paired_difference(gains, losses, len(truth), 0.90, HALF_A_ROW)
    drawn, base = _resampled(formula, ours, theirs, np.asarray(truth), seed)
    difference, difference90 = two_sided, one_sided
    if name != "accuracy":
        seen = _weight(drawn, gains, losses, len(truth))
        heaviest = _heaviest(task, name, truth, (), ours, theirs)
        weight = _unseen(seen, heaviest, gains + losses)
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


@once
def agreement(
    task: Task,
    ours: Floats,
    theirs: Floats,
    truth: Sequence[Any],
    seed: int = SEED,
    groups: Sequence[int] = (),
) -> Interval:
    """Return the share of units with the same answer from both models, with a 95 % interval.

    Wilson's takes units as independent. Words of a sentence and rows of a query are not: they tend
    to differ together, so there whole blocks are drawn.
    """
    same, block = task.scorer.agreement(ours, theirs), task.scorer.block_of_unit(truth)
    if block is None:
        return share(same, seed, groups)
    units = np.bincount(block).astype(float)
    agreed = np.bincount(block, same, minlength=len(units)).astype(float)
    score, blocks = paired.by_group(ratio(agreed, units), groups, len(units))
    heaviest = paired.unevenness(groups)
    return _within("agreement", paired.alone(score, blocks, seed, heaviest=heaviest))


@once
def divergence(
    task: Task,
    ours: Floats,
    theirs: Floats,
    seed: int = SEED,
    groups: Sequence[int] = (),
) -> Interval:
    """Return the mean divergence of a model's answers from another's, with a 95 % interval.

    Kullback-Leibler, in nats. Unlike agreement, it uses every row's probabilities, so a small split
    gives a narrow interval.
    """
    nats = task.scorer.divergence(ours, theirs)
    return _within("kl", paired.alone(*paired.by_group(mean(nats), groups, len(nats)), seed))


def _within(name: str, interval: Interval) -> Interval:
    """Return the interval inside the values that a metric can have."""
    least, most = metrics.known(name).ends
    return Interval(*(min(max(end, least), most) for end in interval))  # NaN stays


def _bounded(name: str, both: Bootstrap) -> Bootstrap:
    """Return a comparison whose bounds are differences and ratios that two scores can have."""
    least, most = metrics.known(name).ends
    reach = most - least
    differences = (Interval(*(min(max(end, -reach), reach) for end in both[at])) for at in (0, 2))
    ratios = [both.ratio, both.ratio90]
    if least == 0:
        ratios = [Interval(*(max(end, 0.0) for end in ratio)) for ratio in ratios]
    first, second = differences
    return Bootstrap(first, ratios[0], second, ratios[1])


def flips(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the number of rows that only the first model has right, and only the second."""
    return int(np.sum(ours & ~theirs)), int(np.sum(theirs & ~ours))


def chance(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], groups: Sequence[int] = ()) -> float:
    """Return the exact two-sided p-value that neither model is right more often.

    McNemar's. With groups, each group's change may as well have gone the other way (Fisher's test
    of paired differences), which is McNemar's test if each group is a row.
    """
    if not len(groups):
        return statistics.mcnemar(*flips(ours, theirs))
    _, number = np.unique(groups, return_inverse=True)
    change = np.bincount(number, ours.astype(float) - theirs).astype(int)
    return statistics.sign_flips(change[change != 0])


@once
def difference(
    ours: NDArray[np.bool_], theirs: NDArray[np.bool_], groups: Sequence[int] = ()
) -> Interval:
    """Return the difference of two shares of right blocks: Tango's interval without groups."""
    if not len(groups):
        return statistics.paired_difference(*flips(ours, theirs), len(ours))
    first, second = (
        paired.by_group(formulas.share(side), groups, len(side)) for side in (ours, theirs)
    )
    heaviest = paired.unevenness(groups)
    found = paired.compare(first[0], *second, heaviest=heaviest)
    return _bounded("accuracy", found).difference


def _least_error(
    probabilities: Floats,
    right: NDArray[np.bool_],
    accuracy: Interval,
    seed: int,
    groups: Sequence[int],
) -> float:
    """Return a lower bound of the calibration error, from accuracy − mean confidence.

    Sampling noise alone makes each bin's accuracy differ from its confidence, so the measured error
    is biased upwards, and so is its bootstrap. The difference of the means has no such bias, and
    by the triangle inequality the true error is at least as large.
    """
    gap = right - probabilities.max(axis=1)
    mean_gap = statistics.bootstrap(*paired.by_group(mean(gap), groups, len(right)), seed)
    mean_gap = _no_surer(mean_gap, accuracy)
    return max(mean_gap.low, -mean_gap.high)


def _weight(drawn: Bootstrap, gains: int, losses: int, rows: int) -> float:
    """Return how much more a flip changes a score than it changes accuracy, at least 1.

    This is the ratio of the standard errors of the two differences: the bootstrap's for the score,
    and accuracy's own.
    """
    variance = (gains + losses) / rows - ((gains - losses) / rows) ** 2
    if variance <= 0:
        return 1.0
    _, low, high = drawn.difference90
    return max(1.0, (high - low) / (2 * Z90) / math.sqrt(variance / rows))


def _heaviest(
    task: Task,
    name: str,
    truth: Sequence[Any],
    groups: Sequence[int],
    *sides: Floats,
) -> float:
    """Return how far one block may move a score, times the number of blocks.

    ``sides``: the answers of each model. It is at least what a block has of a mean, from nothing to
    the greatest value of the score, so that a score of 0 in all blocks has a width too. It is more
    if the task knows an answer that weighs more: one label more that is missed, or found by a model
    that finds none (``Scorer.missed_labels``, ``Scorer.new_labels``).
    """
    top, formula = metrics.known(name).ends[1], task.scorer.formulas(truth)[name]
    most = top if math.isfinite(top) else float(task.scorer.counted and len(groups) > 0)
    for side in sides:
        blocks = len(task.scorer.correct(side, truth))
        changes = [task.scorer.missed_labels(side, truth)]
        if float(formula(side, truth)(np.ones((1, blocks)))[0]) == 0:
            changes.append(task.scorer.new_labels(side, truth))
        for change in changes:
            if change is None:
                continue
            rows, changed = change
            if len(rows):
                most = max(most, _moved(formula, side, truth, rows, changed))
    return most * paired.unevenness(groups)


def _moved(
    formula: Formula, side: Floats, truth: Sequence[Any], rows: Labels, changed: Floats
) -> float:
    """Return how far a score moves at most if one of ``rows`` has its answer of ``changed``.

    Times the number of rows, as for ``_heaviest``.
    """
    longer = [*truth, *(truth[row] for row in rows)]
    score, each = formula(np.concatenate([side, changed]), longer), np.arange(len(rows))
    weights = np.zeros((1 + len(rows), len(longer)))
    weights[:, : len(side)] = 1.0
    weights[1 + each, rows], weights[1 + each, len(side) + each] = 0.0, 1.0
    found = score(weights)
    return len(side) * float(np.abs(found - found[0]).max())


def _unseen(seen: float, heaviest: float, differing: int) -> float:
    """Return the weight of a flip: the fewer were seen, the nearer to the heaviest that may come.

    As in ``paired.unseen_block``.
    """
    return seen + max(heaviest - seen, 0.0) * paired.FEW / (differing + paired.FEW)


def _resampled(
    metric: Formula,
    ours: Floats,
    theirs: Floats,
    truth: NDArray[np.int64],
    seed: int,
) -> tuple[Bootstrap, float]:
    """Return the paired bootstrap of a score, and the reference's score.

    Rows with the same truth and answers are interchangeable, so the counts of each kind of row are
    drawn. This gives the same distribution as drawing single rows in a fraction of the time.
    """
    answers = [formulas.answers(side) for side in (ours, theirs)]
    kinds, counts = np.unique(np.stack([truth, *answers]), axis=1, return_counts=True)
    labels = ours.shape[1]
    certain = np.vstack([np.eye(labels), np.full(labels, np.nan)])  # answers() is −1 for NaN
    scores = [metric(certain[kind], kinds[0]) for kind in kinds[1:]]
    draws = np.random.default_rng(seed).multinomial(
        len(truth), counts / len(truth), statistics.RESAMPLES
    )
    first, second = (float(score(counts[None].astype(float))[0]) for score in scores)
    ours, theirs = (score(draws.astype(float)) for score in scores)
    return statistics.paired(ours, theirs, (first, second)), second


def _no_surer(interval: Interval, accuracy: Interval, weight: float = 1.0) -> Interval:
    """Widen a score's bounds to at least ``weight`` times the distance of accuracy's bounds."""
    low, high = (weight * (bound - accuracy.value) for bound in accuracy[1:])
    return _wider(interval, max(interval.value + low, -1.0), min(interval.value + high, 1.0))


def _wider(interval: Interval, low: float, high: float) -> Interval:
    return Interval(interval.value, min(interval.low, low), max(interval.high, high))
