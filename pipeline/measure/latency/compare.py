"""Decide whether one model is slower than another by more than a margin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rarefy.pipeline.measure import stopping
from rarefy.pipeline.measure.latency import session as latency
from rarefy.pipeline.measure.measurements import CANDIDATE, Latency
from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.terms.interval import Interval

Change = Literal["regression", "improvement", "equal", "inconclusive"]
BASELINE = "baseline"
CHANCE = 0.002
"""The significance level of the rank test, as in asv."""


class Comparison(NamedTuple):
    """The outcome of a comparison.

    ``ratio`` is candidate / baseline; above 1 the candidate is slower. ``p`` is the p-value of
    Wilcoxon's test, None unless medians were compared.
    """

    change: Change
    ratio: Interval
    p: float | None


def measure(
    candidate: Path,
    baseline: Path,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    margin: float,
    **options: Any,
) -> tuple[Comparison, Latency]:
    """Time two bundles side by side until the change of the median is clear or time is up.

    ``options`` are those of ``latency.measure``. The change is inconclusive if the machine was
    throttled during the measurement.
    """

    def judged(timed: Latency) -> Comparison:
        ours, theirs = timed.samples[CANDIDATE], timed.samples[BASELINE]
        comparison = compare(ours, theirs, margin, looks=timed.looks, block=timed.block)
        if timed.throttled:
            return comparison._replace(change="inconclusive")
        return comparison

    def clear(timed: Latency) -> bool:
        return judged(timed).change != "inconclusive"

    bundles = {CANDIDATE: candidate, BASELINE: baseline}
    timed = latency.measure(bundles, texts, pairs, clear=clear, **options)
    return judged(timed), timed


def compare(
    candidate: Sequence[Sequence[float]],
    baseline: Sequence[Sequence[float]],
    margin: float,
    *,
    percentile: float = 50,
    looks: int = 1,
    block: int = 1,
) -> Comparison:
    """Compare a percentile of two models' calls (process × calls, position i is the same row).

    Each ``block`` calls were timed one after another.

    The result is "regression" or "improvement" only if the whole interval of the ratio is beyond
    the margin and, for the median, Wilcoxon's test has p < 0.002. (The test concerns the median:
    three slow calls in a hundred move a p99 but not the test.) The result is "equal" only if the
    whole interval is within the margin. "equal" and "improvement" also take as many processes as
    ``stopping`` says. ``margin`` is a share, 0.05 for 5%.
    """
    ratio = intervals.percentile_ratio(candidate, baseline, percentile, looks=looks)
    slowest, fastest = 1 + margin, 1 / (1 + margin)
    p = None
    if percentile == 50 and ratio.value < 1:
        p = intervals.slower(baseline, candidate, block)
    elif percentile == 50:
        p = intervals.slower(candidate, baseline, block)
    significant = p is None or p < CHANCE
    change: Change = "inconclusive"
    if ratio.low > slowest and significant:
        change = "regression"
    elif ratio.high < fastest and significant:
        change = "improvement"
    elif fastest <= ratio.low and ratio.high <= slowest:
        change = "equal"
    limits = {"improvement": fastest, "equal": slowest}
    if change in limits:
        room = limits[change] / ratio.high
        count = len(candidate)
        slow = stopping.slowest(candidate, baseline, stopping.spared(count))
        if not stopping.is_enough(count, room, slow):
            change = "inconclusive"
    return Comparison(change, ratio, p)
