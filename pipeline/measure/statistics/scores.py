"""Compute the scores that budgets use, with intervals, alone and relative to a reference.

Accuracy has score intervals (Wilson's, Tango's). Other scores that count right rows use a bootstrap
over rows, which has zero width if nothing differs: thirty right answers, resampled, are always
right. So the bounds of a score are never closer to it than accuracy's bounds are to accuracy,
scaled by the weight of a row: in macro F1, a row of a rare label weighs many times as much as
others. Scores that do not count rows have the intervals of
``rarefy.pipeline.measure.statistics.paired``, and so have
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

from rarefy.pipeline.measure.statistics import intervals, paired
from rarefy.pipeline.measure.statistics.intervals import SEED, Bootstrap
from rarefy.pipeline.measure.statistics.memoize import once
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.tasks.shared import formulas
from rarefy.pipeline.tasks.shared.formulas import Floats, Formula, Labels
from rarefy.pipeline.tasks.shared.means import mean, ratio
from rarefy.pipeline.terms import metrics
from rarefy.pipeline.terms.interval import HALF_A_ROW, Interval

Z90 = 1.645
"""The normal quantile for a 90% interval."""


@once
def alone(
    task: Task,
    name: str,
    answers: Floats,
    truth: Sequence[Any],
    seed: int = SEED,
    groups: Sequence[int] = (),
) -> Interval:
    """Return a score with its 95% interval.

    ``answers``: units × columns; ``truth``: as the task's ``truth`` returns it; ``groups``: as its
    ``groups`` does. A row answered NaN counts as wrong; the calibration error of such answers is
    NaN.
    """
    correct = task.scorer.correct(answers, truth)
    accuracy = share(correct, seed, groups)
    if name == "accuracy":
        return accuracy
    counted = _is_counted(task, name, truth)
    formula = _formula(task, name, truth)
    score, blocks = paired.by_group(formula(answers, truth), groups, len(correct))
    if name == "ece" and counted:
        drawn = intervals.bootstrap(score, blocks, seed)
        wide = _no_surer(drawn, accuracy)  # an error: with few rows, the true one may be higher
        low = _least_error(answers, correct, accuracy, seed, groups)
        high = max(wide.high, wide.value + accuracy.value - accuracy.low)
        return within(name, Interval(wide.value, low, high))
    heaviest = 0.0 if name == "ece" else _heaviest(task, name, truth, groups, answers)
    if not counted or len(groups):
        interval = paired.alone(score, blocks, seed, heaviest=heaviest)
        return within(name, interval)
    drawn = intervals.bootstrap(score, blocks, seed)
    mistakes = int((~correct).sum())
    weight = _unseen(1.0, heaviest, mistakes)
    return within(name, _no_surer(drawn, accuracy, weight))


@once
def share(correct: NDArray[np.bool_], seed: int = SEED, groups: Sequence[int] = ()) -> Interval:
    """Return the share of correct blocks with its 95% interval: Wilson's without groups.

    Args:
        correct: Whether each block is, ``(blocks,)``.
        seed: Of the draws of groups.
        groups: Of each block; empty if each is its own.
    """
    if not len(groups):
        return intervals.wilson(int(correct.sum()), len(correct))
    score, blocks = paired.by_group(formulas.share(correct), groups, len(correct))
    heaviest = paired.unevenness(groups)
    interval = paired.alone(score, blocks, seed, heaviest=heaviest)
    return within("accuracy", interval)


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

    If the reference scores 0, the ratio is infinite or NaN. Of calibration errors, sampling noise
    inflates both and so biases their ratio towards 1; the bounds of their difference allow for it.
    """
    if name == "ece":
        return _compare_errors(task, ours, theirs, truth, seed, groups)
    ours_correct, theirs_correct = (
        task.scorer.correct(ours, truth),
        task.scorer.correct(theirs, truth),
    )
    formula = _formula(task, name, truth)
    if not _is_counted(task, name, truth) or len(groups):
        rows = len(ours_correct)
        first, _ = paired.by_group(formula(ours, truth), groups, rows)
        second, blocks = paired.by_group(formula(theirs, truth), groups, rows)
        heaviest = _heaviest(task, name, truth, groups, ours, theirs)
        comparison = paired.compare(first, second, blocks, seed, heaviest=heaviest)
        return bounded(name, comparison)
    rows = len(truth)
    gains, losses = flips(ours_correct, theirs_correct)
    difference = intervals.paired_difference(gains, losses, rows)
    difference90 = intervals.paired_difference(gains, losses, rows, 0.90, HALF_A_ROW)
    drawn, base = _resampled(formula, ours, theirs, np.asarray(truth), seed)
    if name != "accuracy":
        seen = _weight(drawn, gains, losses, rows)
        heaviest = _heaviest(task, name, truth, (), ours, theirs)
        weight = _unseen(seen, heaviest, gains + losses)
        difference = _no_surer(drawn.difference, difference, weight)
        difference90 = _no_surer(drawn.difference90, difference90, weight)
    ratio, ratio90 = drawn.ratio, drawn.ratio90
    if base != 0:
        ratio = _wider_ratio(ratio, difference, base)
        ratio90 = _wider_ratio(ratio90, difference90, base)
    return Bootstrap(difference, ratio, difference90, ratio90)


@once
def agreement(
    task: Task,
    ours: Floats,
    theirs: Floats,
    truth: Sequence[Any],
    seed: int = SEED,
    groups: Sequence[int] = (),
) -> Interval:
    """Return the share of units with the same answer from both models, with a 95% interval.

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
    interval = paired.alone(score, blocks, seed, heaviest=heaviest)
    return within("agreement", interval)


@once
def divergence(
    task: Task,
    ours: Floats,
    theirs: Floats,
    seed: int = SEED,
    groups: Sequence[int] = (),
) -> Interval:
    """Return the mean divergence of a model's answers from another's, with a 95% interval.

    Kullback-Leibler, in nats. Unlike agreement, it uses every row's probabilities, so a small split
    gives a narrow interval.
    """
    nats = task.scorer.divergence(ours, theirs)
    score, blocks = paired.by_group(mean(nats), groups, len(nats))
    return within("kl", paired.alone(score, blocks, seed))


def within(name: str, interval: Interval) -> Interval:
    """Return the interval inside the values that a metric can have."""
    least, most = metrics.known(name).ends
    return _clipped(interval, least, most)


def _clipped(interval: Interval, least: float, most: float) -> Interval:
    ends = [min(max(end, least), most) for end in interval]  # NaN stays
    return Interval(*ends)


def bounded(name: str, both: Bootstrap) -> Bootstrap:
    """Return a comparison whose bounds are differences and ratios that two scores can have."""
    least, most = metrics.known(name).ends
    reach = most - least
    difference = _clipped(both.difference, -reach, reach)
    difference90 = _clipped(both.difference90, -reach, reach)
    ratio, ratio90 = both.ratio, both.ratio90
    if least == 0:
        ratio = _clipped(ratio, 0.0, math.inf)
        ratio90 = _clipped(ratio90, 0.0, math.inf)
    return Bootstrap(difference, ratio, difference90, ratio90)


def flips(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the number of rows that only the first model has right, and only the second."""
    gains = np.sum(ours & ~theirs)
    losses = np.sum(theirs & ~ours)
    return int(gains), int(losses)


def chance(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], groups: Sequence[int] = ()) -> float:
    """Return the exact two-sided p-value that neither model is right more often.

    McNemar's. With groups, each group's change may as well have gone the other way (Fisher's test
    of paired differences), which is McNemar's test if each group is a row.
    """
    if not len(groups):
        return intervals.mcnemar(*flips(ours, theirs))
    _, number = np.unique(groups, return_inverse=True)
    change = ours.astype(float) - theirs
    by_group = np.bincount(number, change).astype(int)
    return intervals.sign_flips(by_group[by_group != 0])


@once
def difference(
    ours: NDArray[np.bool_], theirs: NDArray[np.bool_], groups: Sequence[int] = ()
) -> Interval:
    """Return the difference of two shares of right blocks: Tango's interval without groups."""
    if not len(groups):
        return intervals.paired_difference(*flips(ours, theirs), len(ours))
    first, _ = paired.by_group(formulas.share(ours), groups, len(ours))
    second, blocks = paired.by_group(formulas.share(theirs), groups, len(theirs))
    heaviest = paired.unevenness(groups)
    comparison = paired.compare(first, second, blocks, heaviest=heaviest)
    return bounded("accuracy", comparison).difference


def _formula(task: Task, name: str, truth: Sequence[Any]) -> Formula:
    """Return a metric of a task. Raises KeyError if the task has none of that name."""
    formula = task.scorer.formula(name, truth)
    if formula is None:
        raise KeyError(name)
    return formula


def _is_counted(task: Task, name: str, truth: Sequence[Any]) -> bool:
    """Return whether a score counts correct rows; those on request rank rows, or are one's own."""
    return task.scorer.counted and name in task.scorer.formulas(truth)


def _compare_errors(
    task: Task,
    ours: Floats,
    theirs: Floats,
    truth: Sequence[Any],
    seed: int,
    groups: Sequence[int],
) -> Bootstrap:
    """Compare the calibration errors of candidate and reference; see ``compare``.

    Noise inflates an error by at most what it is where the true error is 0, so it hides at most
    that of the reference from the difference, and adds at most that of the candidate.
    """
    rows, formula = len(truth), _formula(task, "ece", truth)
    first, _ = paired.by_group(formula(ours, truth), groups, rows)
    second, blocks = paired.by_group(formula(theirs, truth), groups, rows)
    heaviest = paired.unevenness(groups)
    drawn = paired.compare(first, second, blocks, seed, heaviest=heaviest)
    added = formulas.ece_of_noise(ours, truth, groups)
    hidden = formulas.ece_of_noise(theirs, truth, groups)
    difference, difference90 = [
        Interval(each.value, each.low - added, each.high + hidden)
        for each in (drawn.difference, drawn.difference90)
    ]
    nothing = Interval(drawn.ratio.value, math.nan, math.nan)
    return bounded("ece", Bootstrap(difference, nothing, difference90, nothing))


def _least_error(
    probabilities: Floats,
    correct: NDArray[np.bool_],
    accuracy: Interval,
    seed: int,
    groups: Sequence[int],
) -> float:
    """Return a lower bound of the calibration error, from accuracy − mean confidence.

    Sampling noise alone makes each bin's accuracy differ from its confidence, so the measured error
    is biased upwards, and so is its bootstrap. The difference of the means has no such bias, and
    by the triangle inequality the true error is at least as large.
    """
    gap = correct - probabilities.max(axis=1)
    score, blocks = paired.by_group(mean(gap), groups, len(correct))
    drawn = intervals.bootstrap(score, blocks, seed)
    mean_gap = _no_surer(drawn, accuracy)
    return max(mean_gap.low, -mean_gap.high)


def _weight(drawn: Bootstrap, gains: int, losses: int, rows: int) -> float:
    """Return how much more a flip changes a score than it changes accuracy, at least 1.

    This is the ratio of the standard errors of the two differences: the bootstrap's for the score,
    and accuracy's own.
    """
    flipped, drift = (gains + losses) / rows, (gains - losses) / rows
    variance = flipped - drift**2
    if variance <= 0:
        return 1.0
    _, low, high = drawn.difference90
    error = (high - low) / (2 * Z90)
    return max(1.0, error / math.sqrt(variance / rows))


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
    if task.scorer.own and task.scorer.own.name == name:
        return 0.0  # nobody knows what it makes of an answer that no model gave
    formula = _formula(task, name, truth)
    _, most = metrics.known(name).ends
    if not math.isfinite(most):
        most = float(task.scorer.counted and len(groups) > 0)
    for side in sides:
        changes = [task.scorer.missed_labels(side, truth)]
        blocks = len(task.scorer.correct(side, truth))
        score = formula(side, truth)
        values = score(np.ones((1, blocks)))
        if float(values[0]) == 0:
            changes.append(task.scorer.new_labels(side, truth))
        for change in changes:
            if change is None:
                continue
            rows, changed = change
            if len(rows):
                moved = _moved(formula, side, truth, rows, changed)
                most = max(most, moved)
    return most * paired.unevenness(groups)


def _moved(
    formula: Formula, side: Floats, truth: Sequence[Any], rows: Labels, changed: Floats
) -> float:
    """Return how far a score moves at most if one of ``rows`` has its answer of ``changed``.

    Times the number of rows, as for ``_heaviest``.
    """
    count, changes = len(side), len(rows)
    longer = [*truth, *(truth[row] for row in rows)]
    answers = np.concatenate([side, changed])
    score = formula(answers, longer)
    # The first row of weights is the answers as they are; each other one has a change instead.
    weights = np.zeros((1 + changes, len(longer)))
    weights[:, :count] = 1.0
    places = np.arange(changes)
    weights[1 + places, rows] = 0.0
    weights[1 + places, count + places] = 1.0
    values = score(weights)
    moved = np.abs(values - values[0])
    return count * float(moved.max())


def _unseen(seen: float, heaviest: float, differing: int) -> float:
    """Return the weight of a flip: the fewer were seen, the nearer to the heaviest that may come.

    As in ``paired.unseen_block``.
    """
    beyond = max(heaviest - seen, 0.0)
    return seen + beyond * paired.FEW / (differing + paired.FEW)


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
    our_answers, their_answers = formulas.answers(ours), formulas.answers(theirs)
    rows = np.stack([truth, our_answers, their_answers])
    kinds, counts = np.unique(rows, axis=1, return_counts=True)
    true, our_labels, their_labels = kinds
    labels = ours.shape[1]
    certain = np.vstack([np.eye(labels), np.full(labels, np.nan)])  # answers() is −1 for NaN
    our_score = metric(certain[our_labels], true)
    their_score = metric(certain[their_labels], true)
    generator = np.random.default_rng(seed)
    shares = counts / len(truth)
    draws = generator.multinomial(len(truth), shares, intervals.RESAMPLES)
    weights = draws.astype(float)
    whole = counts[None].astype(float)
    first = float(our_score(whole)[0])
    second = float(their_score(whole)[0])
    ours_drawn, theirs_drawn = our_score(weights), their_score(weights)
    return intervals.paired(ours_drawn, theirs_drawn, (first, second)), second


def _no_surer(interval: Interval, accuracy: Interval, weight: float = 1.0) -> Interval:
    """Widen a score's bounds to at least ``weight`` times the distance of accuracy's bounds."""
    down = weight * (accuracy.low - accuracy.value)
    up = weight * (accuracy.high - accuracy.value)
    low = max(interval.value + down, -1.0)
    high = min(interval.value + up, 1.0)
    return _wider(interval, low, high)


def _wider_ratio(ratio: Interval, difference: Interval, base: float) -> Interval:
    """Widen a ratio to at least that of the difference to the reference's score, ``base``."""
    low, high = 1 + difference.low / base, 1 + difference.high / base
    return _wider(ratio, low, high)


def _wider(interval: Interval, low: float, high: float) -> Interval:
    return Interval(interval.value, min(interval.low, low), max(interval.high, high))
