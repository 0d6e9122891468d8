"""Intervals and tests behind a verdict: proportions, paired differences, ratios of latencies.

Intervals are at 95 % unless the function says otherwise. All random functions take a seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Literal, NamedTuple

import numpy as np

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
    """A metric of candidate and reference on the same rows: 95 % and one-sided 95 % bounds.

    ``difference`` and ``ratio`` are two-sided 95 % intervals (candidate − reference, candidate /
    reference). ``difference90`` and ``ratio90`` run from the 5th to the 95th percentile: each end
    is a one-sided 95 % bound, as a non-inferiority test requires.
    """

    difference: Interval
    ratio: Interval
    difference90: Interval
    ratio90: Interval


def wilson(successes: int, n: int) -> Interval:
    """Return a proportion with Wilson's score interval (Wilson 1927)."""
    from scipy.stats import binomtest

    found = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return Interval(successes / n, float(found.low), float(found.high))


def mcnemar(gains: int, losses: int) -> float:
    """Return McNemar's exact two-sided p-value; under H0, gains and losses are equally likely.

    ``gains``: rows that only the candidate has right; ``losses``: rows that only the reference
    has right.
    """
    from scipy.stats import binomtest

    if gains + losses == 0:
        return 1.0
    return float(binomtest(gains, gains + losses, 0.5).pvalue)


def sign_flips(changes: Sequence[int]) -> float:
    """Return the exact two-sided p-value of a sum of changes that may each have had either sign.

    Fisher's randomization test of paired differences (Fisher 1935, "The Design of Experiments",
    section 21). ``changes``: integers, none of them 0.
    """
    sizes = np.abs(np.asarray(changes, dtype=int))
    chance = np.ones(1)  # of each sum, from minus to plus the sum of the sizes, in steps of two
    for size in sizes.tolist():
        nothing = np.zeros(size)
        chance = (np.concatenate([chance, nothing]) + np.concatenate([nothing, chance])) / 2
    whole = int(sizes.sum())
    sums = 2 * np.arange(len(chance)) - whole
    seen = abs(int(np.sum(np.asarray(changes, dtype=int))))
    return min(1.0, float(chance[np.abs(sums) >= seen].sum()))


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
        b = -gains - losses + (2 * n - gains + losses) * delta
        c = -losses * delta * (1 - delta)
        nuisance = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * nuisance + delta * (1 - delta))
        return (gains - losses + moved - n * delta) / math.sqrt(max(variance, 1e-12))

    def below(delta: float) -> float:
        return statistic(delta, -correction) - z

    def above(delta: float) -> float:
        return statistic(delta, correction) + z

    edge = 1 - 1e-9
    value = (gains - losses) / n
    low = -1.0 if below(-edge) < 0 else brentq(below, -edge, value)
    high = 1.0 if above(edge) > 0 else brentq(above, value, edge)
    return Interval(value, float(low), float(high))


def non_inferiority(
    difference90: Interval, margin: float
) -> Literal["pass", "fail", "inconclusive"]:
    """Test whether the candidate is at most ``margin`` worse, from one-sided 95 % bounds.

    ``difference90``: candidate − reference with its 90 % interval. Returns "pass", "fail" or
    "inconclusive".
    """
    if difference90.low > -margin:
        return "pass"
    return "fail" if difference90.high < -margin else "inconclusive"


def bootstrap(score: Score, rows: int, seed: int = SEED, resamples: int = RESAMPLES) -> Interval:
    """Return a metric with its 95 % percentile bootstrap interval over rows."""
    value = float(score(np.ones((1, rows)))[0])
    draws = np.concatenate([score(weights) for weights in _weights(rows, resamples, seed)])
    return _interval(value, draws, 0.95)


def paired(ours: Floats, theirs: Floats, whole: tuple[float, float]) -> Bootstrap:
    """Return the difference and ratio from both models' draws and their scores on all rows.

    A draw in which both score 0 may have any ratio, so each end takes it for the worst.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios, ratio = ours / theirs, float(np.float64(whole[0]) / whole[1])
    lower, upper = (np.where(np.isnan(ratios), worst, ratios) for worst in (-np.inf, np.inf))
    differences, difference = ours - theirs, whole[0] - whole[1]
    return Bootstrap(
        _interval(difference, differences, 0.95),
        Interval(ratio, _interval(ratio, lower, 0.95).low, _interval(ratio, upper, 0.95).high),
        _interval(difference, differences, 0.90),
        Interval(ratio, _interval(ratio, lower, 0.90).low, _interval(ratio, upper, 0.90).high),
    )


def _weights(rows: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield the count of each row per draw, chunk × rows, ``resamples`` draws in total."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // rows)
    for start in range(0, resamples, chunk):
        n = min(chunk, resamples - start)
        drawn = generator.integers(0, rows, (n, rows)) + rows * np.arange(n)[:, None]
        yield np.bincount(drawn.ravel(), minlength=n * rows).reshape(n, rows).astype(float)


def carries(percentile: float, n: int) -> bool:
    """Return whether n samples are enough to estimate a percentile.

    They are if a distribution-free 95 % interval exists: the percentile is above the smallest and
    below the largest sample with 97.5 % probability each. The median needs 6 samples, p90 36,
    p95 72, p99 368.
    """
    share = percentile / 100
    return max(share**n, (1 - share) ** n) <= 0.025


def samples_needed(percentile: float) -> int:
    """Return the smallest number of samples that is enough to estimate a percentile."""
    return next(n for n in count(1) if carries(percentile, n))


def percentile_of(samples: Sequence[Sequence[float]], percentile: float) -> float:
    """Return a percentile of all calls of several processes (process × calls, not empty)."""
    return float(np.percentile(np.concatenate([np.asarray(p, float) for p in samples]), percentile))


@once
def percentile_interval(
    samples: Sequence[Sequence[float]], percentile: float, seed: int = SEED, looks: int = 1
) -> Interval:
    """Return a percentile of all calls of several processes with its interval.

    ``samples``: process × calls. See ``_between_processes``.
    """
    arrays = [np.asarray(process, dtype=float) for process in samples]
    draws = [np.percentile(drawn, percentile) for (drawn,) in _resample([arrays], seed)]
    value = percentile_of(samples, percentile)
    return _between_processes(value, np.array(draws), len(arrays), looks)


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
    pair = [
        [np.asarray(process, dtype=float) for process in model]
        for model in (numerator, denominator)
    ]
    over, under = (percentile_of(model, percentile) for model in (numerator, denominator))
    draws = [
        np.percentile(first, percentile) / np.percentile(second, percentile)
        for first, second in _resample(pair, seed)
    ]
    return _between_processes(over / under, np.array(draws), len(pair[0]), looks)


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

    first, second = (
        np.log([middle for process in model for middle in _medians(process, block)])
        for model in (candidate, baseline)
    )
    ratios = first - second
    return float(wilcoxon(ratios, alternative="greater").pvalue) if ratios.any() else 1.0


def _medians(calls: Sequence[float], block: int) -> Iterator[float]:
    """Yield the median of each ``block`` calls; a shorter rest is one more."""
    for start in range(0, len(calls), block):
        yield float(np.median(calls[start : start + block]))


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
    from scipy.stats import t

    if processes == 1:
        return _interval(value, draws, 1 - 0.05 / looks)
    error = float(np.std(np.log(draws))) * math.sqrt(processes / (processes - 1))
    reach = float(t.ppf(1 - 0.025 / looks, processes - 1)) * error
    return Interval(value, value * math.exp(-reach), value * math.exp(reach))


def _resample(models: list[list[Floats]], seed: int) -> Iterator[list[Floats]]:
    """Yield each model's joined calls for a draw of processes that is the same for all models.

    If there is only one process, its calls are drawn.
    """
    generator = np.random.default_rng(seed)
    processes = len(models[0])
    for _ in range(DRAWS):
        if processes == 1:
            at = generator.integers(0, len(models[0][0]), len(models[0][0]))
            yield [model[0][at] for model in models]
        else:
            drawn = generator.integers(0, processes, processes)
            yield [np.concatenate([model[process] for process in drawn]) for model in models]


def _interval(value: float, draws: Floats, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):  # ratios to zero: infinite draws, infinite or NaN bounds
        low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(value, float(low), float(high))
