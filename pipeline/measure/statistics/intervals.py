"""Intervals and tests behind a verdict: proportions, paired differences, ratios of latencies.

Intervals are at 95% unless the function says otherwise. All random functions take a seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rarefy.pipeline.measure.statistics.memoize import once
from rarefy.pipeline.tasks.shared.formulas import Floats, Score
from rarefy.pipeline.terms.interval import Interval

SEED = 0
"""The seed of every interval, so a number has the same interval wherever it is shown."""
RESAMPLES = 2000
DRAWS = 1000
"""Bootstrap draws of processes or calls: enough for a standard error."""
_CHUNK = 2_000_000  # weights held at once: 16 MB


class Bootstrap(NamedTuple):
    """A metric of candidate and reference on the same rows: 95% and one-sided 95% bounds.

    ``difference`` and ``ratio`` are two-sided 95% intervals (candidate − reference, candidate /
    reference). ``difference90`` and ``ratio90`` run from the 5th to the 95th percentile: each end
    is a one-sided 95% bound, as a non-inferiority test requires.
    """

    difference: Interval
    ratio: Interval
    difference90: Interval
    ratio90: Interval


def wilson(successes: int, n: int) -> Interval:
    """Return a proportion with Wilson's score interval (Wilson 1927)."""
    from scipy.stats import binomtest

    bounds = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return Interval(successes / n, float(bounds.low), float(bounds.high))


def mcnemar(gains: int, losses: int) -> float:
    """Return McNemar's exact two-sided p-value; under H0, gains and losses are equally likely.

    ``gains``: rows that only the candidate has right; ``losses``: rows that only the reference
    has right.
    """
    from scipy.stats import binomtest

    flips = gains + losses
    if flips == 0:
        return 1.0
    test = binomtest(gains, flips, 0.5)
    return float(test.pvalue)


def sign_flips(changes: Sequence[int]) -> float:
    """Return the exact two-sided p-value of a sum of changes that may each have had either sign.

    Fisher's randomization test of paired differences (Fisher 1935, "The Design of Experiments",
    section 21). ``changes``: integers, none of them 0.
    """
    signed = np.asarray(changes, dtype=int)
    sizes = np.abs(signed)
    chance = np.ones(1)  # of each sum, from minus to plus the sum of the sizes, in steps of two
    for size in sizes.tolist():
        nothing = np.zeros(size)
        minus = np.concatenate([chance, nothing])
        plus = np.concatenate([nothing, chance])
        chance = (minus + plus) / 2
    whole = int(sizes.sum())
    sums = 2 * np.arange(len(chance)) - whole
    as_far = np.abs(sums) >= abs(int(signed.sum()))
    return min(1.0, float(chance[as_far].sum()))


def paired_difference(
    gains: int, losses: int, n: int, confidence: float = 0.95, correction: float = 0.0
) -> Interval:
    """Return the difference of two accuracies on the same n rows, with Tango's score interval.

    Unlike a bootstrap interval, it keeps a width if the models never disagree.
    ``correction``: continuity correction, in rows by which each bound moves outwards.

    Tango 1998, "Equivalence test and confidence interval for the difference in proportions for
    the paired-sample design".
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = float(norm.ppf(0.5 + confidence / 2))

    def statistic(delta: float, moved: float) -> float:
        spread = delta * (1 - delta)
        slope = 2 * n - gains + losses
        b = -gains - losses + slope * delta
        c = -losses * delta * (1 - delta)
        discriminant = max(b * b - 8 * n * c, 0.0)
        root = math.sqrt(discriminant)
        nuisance = (root - b) / (4 * n)
        variance = n * (2 * nuisance + spread)
        distance = gains - losses + moved - n * delta
        return distance / math.sqrt(max(variance, 1e-12))

    def below(delta: float) -> float:
        return statistic(delta, -correction) - z

    def above(delta: float) -> float:
        return statistic(delta, correction) + z

    edge = 1 - 1e-9
    value = (gains - losses) / n
    low, high = -1.0, 1.0
    if below(-edge) >= 0:
        low = float(brentq(below, -edge, value))
    if above(edge) <= 0:
        high = float(brentq(above, value, edge))
    return Interval(value, low, high)


def non_inferiority(
    difference90: Interval, margin: float
) -> Literal["pass", "fail", "inconclusive"]:
    """Test whether the candidate is at most ``margin`` worse, from one-sided 95% bounds.

    ``difference90``: candidate − reference with its 90 % interval. Returns "pass", "fail" or
    "inconclusive".
    """
    if difference90.low > -margin:
        return "pass"
    return "fail" if difference90.high < -margin else "inconclusive"


def bootstrap(score: Score, rows: int, seed: int = SEED, resamples: int = RESAMPLES) -> Interval:
    """Return a metric with its 95% percentile bootstrap interval over rows."""
    value = float(score(np.ones((1, rows)))[0])
    chunks = [score(weights) for weights in _weights(rows, resamples, seed)]
    return _interval(value, np.concatenate(chunks), 0.95)


def paired(ours: Floats, theirs: Floats, whole: tuple[float, float]) -> Bootstrap:
    """Return the difference and ratio from both models' draws and their scores on all rows.

    A draw in which both score 0 may have any ratio, so each end takes it for the worst.

    Args:
        ours: The candidate's score in each draw, ``(draws,)``.
        theirs: The reference's.
        whole: Both scores on all rows.
    """
    our_score, their_score = whole
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = ours / theirs
        ratio = float(np.float64(our_score) / their_score)
    undefined = np.isnan(ratios)
    lower = np.where(undefined, -np.inf, ratios)
    upper = np.where(undefined, np.inf, ratios)

    def ratio_interval(confidence: float) -> Interval:
        low = _interval(ratio, lower, confidence).low
        high = _interval(ratio, upper, confidence).high
        return Interval(ratio, low, high)

    differences, difference = ours - theirs, our_score - their_score
    return Bootstrap(
        _interval(difference, differences, 0.95),
        ratio_interval(0.95),
        _interval(difference, differences, 0.90),
        ratio_interval(0.90),
    )


def _weights(rows: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield the count of each row per draw, chunk × rows, ``resamples`` draws in total."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // rows)
    for start in range(0, resamples, chunk):
        n = min(chunk, resamples - start)
        drawn = generator.integers(0, rows, (n, rows))
        offsets = rows * np.arange(n)
        cells = drawn + offsets[:, None]
        counts = np.bincount(cells.ravel(), minlength=n * rows)
        yield counts.reshape(n, rows).astype(float)


def carries(percentile: float, n: int) -> bool:
    """Return whether n samples are enough to estimate a percentile.

    They are if a distribution-free 95% interval exists: the percentile is above the smallest and
    below the largest sample with 97.5% probability each. The median needs 6 samples, p90 36,
    p95 72, p99 368.
    """
    below = percentile / 100
    above = 1 - below
    return max(below**n, above**n) <= 0.025


def samples_needed(percentile: float) -> int:
    """Return the smallest number of samples that is enough to estimate a percentile."""
    return next(n for n in count(1) if carries(percentile, n))


def percentile_of(samples: Sequence[Sequence[float]], percentile: float) -> float:
    """Return a percentile of all calls of several processes (process × calls, not empty)."""
    calls = np.concatenate([np.asarray(process, float) for process in samples])
    return float(np.percentile(calls, percentile))


@once
def percentile_interval(
    samples: Sequence[Sequence[float]],
    percentile: float,
    seed: int = SEED,
    looks: int = 1,
    rows: Sequence[Sequence[int]] = (),
) -> Interval:
    """Return a percentile of all calls of several processes with its interval.

    Without ``rows`` it is of these rows alone; see ``_between_processes``. With them, it is of all
    rows that they are a sample of: processes and rows are drawn apart, and the two variances are
    added, with the degrees of freedom of Satterthwaite (1946), "An approximate distribution of
    estimates of variance components". What belongs to single calls is in both, so the sum is rather
    too large.

    Args:
        samples: In ms, process × calls.
        percentile: Between 0 and 100.
        seed: Of the draws.
        looks: How often the growing data was looked at.
        rows: The number of each call's row, process × calls.
    """
    draws = _draws_of_processes(samples, percentile, seed)
    value = percentile_of(samples, percentile)
    processes = len(samples)
    different = len(set().union(*rows))
    if different <= 1 or processes == 1:
        return _between_processes(value, draws, processes, looks)
    called = np.concatenate(rows)
    _, units = np.unique(called, return_inverse=True)
    calls = np.concatenate(samples)
    row_draws = _draws(calls, units, percentile, seed)
    of_rows = _Variance.of(row_draws, different)
    variance = _Variance.of(draws, processes).plus(of_rows)
    return _log_interval(value, variance, looks)


@once
def percentile_ratio(
    numerator: Sequence[Sequence[float]],
    denominator: Sequence[Sequence[float]],
    percentile: float,
    seed: int = SEED,
    looks: int = 1,
) -> Interval:
    """Return the ratio of a percentile of two models' latencies with its interval.

    Position i of a process is the same row for both models, and the bootstrap draws the same
    processes for both. See ``_between_processes``.
    """
    over = _draws_of_processes(numerator, percentile, seed)
    under = _draws_of_processes(denominator, percentile, seed)
    whole_over = percentile_of(numerator, percentile)
    whole_under = percentile_of(denominator, percentile)
    value = whole_over / whole_under
    return _between_processes(value, over / under, len(numerator), looks)


def slower(
    candidate: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]], block: int = 1
) -> float:
    """Return the one-sided p-value of a test that the candidate is slower.

    This is Wilcoxon's signed-rank test on the log ratios of the medians of two models' blocks: each
    ``block`` calls of a process were timed one after another, on the same rows for both models.
    What disturbs a machine lasts longer than a call, so the calls of a block are no independent
    pairs. A Mann–Whitney test on the calls would mostly see the rows' different lengths.
    """
    from scipy.stats import wilcoxon

    ratios = np.log(_medians(candidate, block)) - np.log(_medians(baseline, block))
    if not ratios.any():
        return 1.0
    test = wilcoxon(ratios, alternative="greater")
    return float(test.pvalue)


def _medians(samples: Sequence[Sequence[float]], block: int) -> list[float]:
    """Return the median of each ``block`` calls of a process; a shorter rest is one more."""
    medians = []
    for calls in samples:
        for start in range(0, len(calls), block):
            middle = np.median(calls[start : start + block])
            medians.append(float(middle))
    return medians


@dataclass(frozen=True)
class _Variance:
    """A variance of a logarithm, and its degrees of freedom."""

    value: float
    freedom: float

    @classmethod
    def of(cls, draws: Floats, units: int) -> _Variance:
        """Return the variance that bootstrap draws of units show."""
        logs = np.log(draws)
        freedom = units - 1
        value = float(np.var(logs)) * units / freedom
        return cls(value, freedom)

    def plus(self, other: _Variance) -> _Variance:
        """Return the sum of two, with Satterthwaite's degrees of freedom."""
        total = self.value + other.value
        if total == 0:
            return self
        ours = self.value**2 / self.freedom
        theirs = other.value**2 / other.freedom
        freedom = total**2 / (ours + theirs)
        return _Variance(total, freedom)


def _between_processes(value: float, draws: Floats, processes: int, looks: int) -> Interval:
    """Return the interval of a percentile, or of a ratio of two, from bootstrap draws.

    The place of the weights in memory makes one process a few percent faster than another, so
    whole processes are drawn. (Drawing calls within them too would count their noise twice.) As
    processes are few, percentiles of the draws would be far too narrow. Instead, the standard
    error is the bootstrap's, on a log scale and times √(k/(k−1)), with Student's quantile for
    k − 1 degrees of freedom (Cameron, Gelbach and Miller 2008, "Bootstrap-based improvements for
    inference with clustered errors"). With ``looks`` looks at growing data, each interval is at
    1 − 0.05/looks. A single process says nothing about others; its interval covers only its calls.
    """
    if processes == 1:
        return _interval(value, draws, 1 - 0.05 / looks)
    variance = _Variance.of(draws, processes)
    return _log_interval(value, variance, looks)


def _log_interval(value: float, variance: _Variance, looks: int) -> Interval:
    """Return an interval at 1 − 0.05/looks from the variance of the logarithm."""
    from scipy.stats import t

    confidence = 1 - 0.025 / looks
    quantile = float(t.ppf(confidence, variance.freedom))
    error = math.sqrt(variance.value)
    factor = math.exp(quantile * error)
    return Interval(value, value / factor, value * factor)


def _draws_of_processes(samples: Sequence[Sequence[float]], percentile: float, seed: int) -> Floats:
    """Return a percentile of all calls in each draw of processes, ``(draws,)``.

    The same seed draws the same processes. If there is only one process, its calls are drawn.
    """
    calls = np.concatenate(samples)
    if len(samples) == 1:
        each = np.arange(len(calls))
        return _draws(calls, each, percentile, seed)
    lengths = list(map(len, samples))
    processes = np.arange(len(lengths))
    units = np.repeat(processes, lengths)
    return _draws(calls, units, percentile, seed)


def _draws(calls: Floats, units: NDArray[np.int64], percentile: float, seed: int) -> Floats:
    """Return a percentile of calls in each bootstrap draw of units, ``(draws,)``.

    A unit that is drawn twice counts twice. The result is that of ``np.percentile`` on the calls of
    the drawn units, by cumulative counts instead of a sort for every draw.

    Args:
        calls: In ms, ``(calls,)``.
        units: The number of each call's unit, from 0, ``(calls,)``.
        percentile: Between 0 and 100.
        seed: Of the draws.
    """
    order = np.argsort(calls)
    ordered = calls[order]
    unit_of = units[order]
    number = int(units.max()) + 1
    chunk = max(1, _CHUNK // len(calls))
    draws = []
    for counts in _weights(number, DRAWS, seed):
        for start in range(0, len(counts), chunk):
            some = counts[start : start + chunk]
            weights = np.take(some.astype(np.int32), unit_of, axis=1)
            draws.append(_weighted(ordered, weights, percentile))
    return np.concatenate(draws)


def _weighted(ordered: Floats, weights: NDArray[np.int32], percentile: float) -> Floats:
    """Return the percentile of calls for each row of weights, draws × calls; calls ascend."""
    upto = np.cumsum(weights, axis=1, dtype=np.int32)
    last = upto[:, -1] - 1
    place = last * (percentile / 100)
    below = np.floor(place)
    above = np.ceil(place)
    low = ordered[_first_above(upto, below)]
    high = ordered[_first_above(upto, above)]
    part = place - below
    result: Floats = low + (high - low) * part
    return result


def _first_above(upto: NDArray[np.int32], places: Floats) -> NDArray[np.int64]:
    """Return of each row the first column above its place; rows ascend."""
    whole = places.astype(np.int32)
    above = upto > whole[:, None]
    first: NDArray[np.int64] = np.argmax(above, axis=1)
    return first


def _interval(value: float, draws: Floats, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):  # ratios to zero: infinite draws, infinite or NaN bounds
        bounds = np.quantile(draws, [tail, 1 - tail])
    low, high = bounds
    return Interval(value, float(low), float(high))
