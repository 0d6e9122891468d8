"""Judge a load test: is the p99 of the response time within a limit?"""

from __future__ import annotations

import numpy as np

from rarefy.pipeline.measure.load.session import Load
from rarefy.pipeline.terms.outcomes import Outcome
from rarefy.pipeline.terms.wording import bounds, required


def judge(load: Load, limit: float) -> tuple[Outcome, str]:
    """Judge the p99 of the response time against ``limit`` (ms); return the outcome and reason.

    The test passes only if the whole interval is within the limit and the queue has a steady
    state, so never if requests are unanswered. It fails only if the whole interval is beyond the
    limit and the p99 would exceed the limit even without the machine's delays.
    """
    if load.broken:
        return "fail", f"{load.broken} of {len(load.service)} predictions are NaN or infinite"
    p99 = load.percentile(99)
    if p99 is None:
        return "inconclusive", f"{len(load.sent)} requests are too few to estimate p99; send more"
    allowed = f"at most {required(limit, 'ms')} is allowed"
    least = "at least " if load.unanswered else ""
    shown = f"{least}{bounds(p99, 'ms', limit)}"
    text = f"p99 is {shown} at {load.rate:g} requests a second; {allowed}"
    if p99.low > limit:
        ideal = float(np.percentile(load.ideal, 99))
        if ideal > limit:
            return "fail", text
        late = f"inconclusive because the machine delayed {load.late:.0%} of the responses"
        return "inconclusive", f"{text}; {late}"
    if p99.high > limit:
        longer = "" if load.saturated else "; a longer run (--seconds) narrows it"
        why = f"inconclusive because the interval includes the limit{longer}"
        return "inconclusive", f"{text}; {why}"
    if load.saturated:
        saturated = f"{load.saturated}, so a longer run would give longer times"
        return "inconclusive", f"{text}; inconclusive because {saturated}"
    return "pass", text
