"""The verdict on a load test: is the p99 of the response time within a limit?"""

from __future__ import annotations

import numpy as np

from pipeline.measure.load import Load
from pipeline.terms.outcomes import Outcome
from pipeline.terms.wording import bounds, quantity


def judge(load: Load, limit: float) -> tuple[Outcome, str]:
    """Judge the p99 of the response time against ``limit`` (ms); say why in one sentence.

    It passes only where the whole interval is within the limit and the queue has a steady state;
    it fails only where the whole interval is beyond it, and would be if no process had been late.
    """
    if load.broken:
        return "fail", f"{load.broken} of {len(load.sent)} answers are NaN or infinite"
    p99 = load.percentile(99)
    if p99 is None:
        return "inconclusive", f"{len(load.sent)} requests cannot carry a p99; send more"
    asked = f"at most {quantity(limit, 'ms')} was asked"
    text = f"p99 is {bounds(p99, 'ms')} at {load.rate:g} requests a second; {asked}"
    if p99.low > limit:
        if float(np.percentile(load.ideal, 99)) > limit:
            return "fail", text
        return "inconclusive", f"{text}; but {load.late:.0%} of them were late by the machine"
    if p99.high > limit:
        return "inconclusive", f"{text}; the interval holds the limit, so it is undecided"
    if load.saturated:
        return "inconclusive", f"{text}; but {load.saturated}: a longer run would take longer"
    return "pass", text
