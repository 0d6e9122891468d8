"""What a session of latencies can tell apart, said before a run.

A tail varies more between processes than a median does, so the same margin leaves more of its
regressions inconclusive. And below a few percent, one session may differ from the next by as much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rarefy.pipeline.measure.stopping import FEWEST, LOOKS
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.metrics import METRICS
from rarefy.pipeline.terms.wording import required
from rarefy.pipeline.verdict.power import Z_POWER

if TYPE_CHECKING:
    from rarefy.pipeline.measure.measurements import Latency, Measurements
    from rarefy.pipeline.verdict.between_sessions import Spread, Timed

SESSION: Final = 0.03
"""A margin below this is no more than what sessions of one machine may differ by."""
DEVIATIONS: Final = {50: 0.013, 90: 0.02, 95: 0.03, 99: 0.08}
"""Percentile -> the deviation of its ratio between processes, before a run has told."""


def notes(
    budgets: Sequence[Budget],
    processes: int,
    earlier: Measurements | None = None,
    sessions: Mapping[Timed, Spread] | None = None,
) -> list[str]:
    """Return a sentence for each regression of a latency that a session may not tell.

    Args:
        budgets: The recipe's.
        processes: Those that ``validate`` starts at least.
        earlier: The last run's measurements, which show how much processes differ.
        sessions: How much sessions differ on this machine.
    """
    sentences = []
    for budget in budgets:
        metric = METRICS.get(budget.metric)
        if metric is None or metric.kind != "latency" or budget.form != "max_regression":
            continue
        name = f"{budget.metric} max_regression against {budget.against}"
        for sentence in (_margin(budget, sessions or {}), _power(budget, processes, earlier)):
            if sentence:
                sentences.append(f"{name}: {sentence}")
    return sentences


def _margin(budget: Budget, sessions: Mapping[Timed, Spread]) -> str | None:
    """Return that a margin is too small for one session, None if it is not."""
    margin = required(budget.limit, "%")
    for timed, spread in sessions.items():
        if (timed.metric, timed.caches) != (budget.metric, budget.caches):
            continue
        if budget.target not in (None, timed.target):
            continue
        if budget.limit < math.expm1(spread.reach):
            return f"sessions on this machine differ by {spread.text}, more than the {margin}"
    if budget.limit < SESSION:
        return (
            f"one session cannot show {margin}: the next may differ by {SESSION:.0%}; only "
            "a larger margin helps"
        )
    return None


def _power(budget: Budget, processes: int, earlier: Measurements | None) -> str | None:
    """Return from which slow-down on most sessions fail a tail, None for a median."""
    from scipy.stats import t

    _, _, percent = budget.metric.rpartition("_p")
    percentile = int(percent)
    if percentile == 50:
        return None
    most = max(processes, FEWEST)
    deviation, origin = DEVIATIONS[percentile], "assuming that it varies"
    measured = _deviation(budget, percentile, earlier)
    if measured is not None:
        deviation, origin = measured, "as it varied in the last run"
    confidence = 1 - 0.025 / LOOKS
    quantile = float(t.ppf(confidence, most - 1))
    error = deviation / math.sqrt(most)
    reach = (quantile + Z_POWER) * error
    slower = (1 + budget.limit) * math.exp(reach) - 1
    return (
        f"with {most} processes, a slow-down of {slower:.1%} or more is seen in 4 of 5 sessions, a "
        f"smaller one is mostly inconclusive ({origin} by {deviation:.1%} between processes)"
    )


def _deviation(budget: Budget, percentile: int, earlier: Measurements | None) -> float | None:
    """Return the deviation of a ratio between the processes of the last run, None if it had none.

    It is that of the target on which processes differed most.
    """
    from rarefy.pipeline.measure.measurements import CANDIDATE

    if earlier is None or budget.caches == "cold":
        return None
    name = earlier.name_of(budget.against or "")
    if name is None:
        return None
    deviations = []
    for target, timed in earlier.latency.items():
        if budget.target not in (None, target) or timed.processes < 2:
            continue
        if name in timed.samples and CANDIDATE in timed.samples:
            deviations.append(_of_processes(timed, name, percentile))
    return max(deviations, default=None)


def _of_processes(timed: Latency, reference: str, percentile: int) -> float:
    """Return the deviation that the interval of a ratio is made of."""
    from scipy.stats import t

    from rarefy.pipeline.measure.measurements import CANDIDATE

    ratio = timed.ratio(CANDIDATE, reference, percentile)
    confidence = 1 - 0.025 / timed.looks
    quantile = float(t.ppf(confidence, timed.processes - 1))
    reach = math.log(ratio.high / ratio.value)
    error = reach / quantile
    return error * math.sqrt(timed.processes)
