"""Is one model slower than another by more than a margin? The word, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline.measure import latency, statistics
from pipeline.measure.measurements import CANDIDATE, Latency
from pipeline.terms.interval import Interval

Change = Literal["regression", "improvement", "equal", "inconclusive"]
BASELINE = "baseline"
CHANCE = 0.002
"""asv's level of a rank test: below it a longer time is no accident."""


class Comparison(NamedTuple):
    """``ratio`` is candidate / baseline: above one the candidate is slower.

    ``p`` is Wilcoxon's, of the median alone.
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
    """Time two bundles beside each other until their medians' change is clear, or time is up.

    ``options`` are those of ``latency.measure``. On a machine that was throttled meanwhile nothing
    is clear.
    """

    def judged(timed: Latency) -> Comparison:
        ours, theirs = timed.samples[CANDIDATE], timed.samples[BASELINE]
        found = compare(ours, theirs, margin, looks=timed.looks)
        return found._replace(change="inconclusive") if timed.throttled else found

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
) -> Comparison:
    """Compare a percentile of two models' calls (process × calls, position i the same row).

    A change is called only where the whole interval of the ratio lies beyond the margin and, of
    the median, Wilcoxon's test leaves less than 0.002 to chance (it asks about the middle: three
    slow calls of a hundred move a p99, and not it); "equal" only where the whole interval lies
    within the margin. ``margin``: a share, 0.05 for 5 %.
    """
    ratio = statistics.percentile_ratio(candidate, baseline, percentile, looks=looks)
    change: Change = "inconclusive"
    sides = (baseline, candidate) if ratio.value < 1 else (candidate, baseline)
    p = statistics.slower(*sides) if percentile == 50 else None
    sure = p is None or p < CHANCE
    if ratio.low > 1 + margin:
        change = "regression" if sure else "inconclusive"
    elif ratio.high < 1 / (1 + margin):
        change = "improvement" if sure else "inconclusive"
    elif ratio.low >= 1 / (1 + margin) and ratio.high <= 1 + margin:
        change = "equal"
    return Comparison(change, ratio, p)
