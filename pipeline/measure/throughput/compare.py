"""Decide whether one model has a lower throughput than another by more than a margin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rarefy.pipeline.measure.latency.compare import BASELINE, Change
from rarefy.pipeline.measure.measurements import CANDIDATE
from rarefy.pipeline.measure.rows_per_second import Throughput
from rarefy.pipeline.measure.throughput import session
from rarefy.pipeline.measure.throughput.rows import Job
from rarefy.pipeline.terms.recipe_parts import Target


def measure(
    candidate: Path, baseline: Path, job: Job, target: Target, margin: float, **options: Any
) -> Throughput:
    """Measure two bundles in turns until the change is clear or time is up.

    ``options`` are those of ``session.measure``.
    """

    def clear(timed: Throughput) -> bool:
        return change(timed, margin) != "inconclusive"

    bundles = {CANDIDATE: candidate, BASELINE: baseline}
    return session.measure(bundles, job, target, clear=clear, **options)


def change(timed: Throughput, margin: float) -> Change:
    """Return how the candidate's rows a second differ from the baseline's.

    A regression loses more than ``margin``, a share of the baseline's. As in a budget, the whole
    interval decides. Nothing is clear if the machine changed meanwhile.
    """
    ratio = timed.ratio(CANDIDATE, BASELINE)
    lowest, highest = 1 - margin, 1 / (1 - margin)
    if timed.throttled:
        return "inconclusive"
    if ratio.high < lowest:
        return "regression"
    if ratio.low > highest:
        return "improvement"
    if lowest <= ratio.low and ratio.high <= highest:
        return "equal"
    return "inconclusive"
