"""How much one ratio of times differs from session to session here, as the history shows it.

All processes of a session share what a boot, the other machines of a host or a kernel's choices do
to one model more than to the other. No interval of one session shows that. Sessions that measured
the same bundle beside the same baseline on the same machine do.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from rarefy.pipeline.measure.measurements import Measurements
from rarefy.pipeline.terms.errors import RarefyError
from rarefy.pipeline.terms.metrics import known
from rarefy.pipeline.terms.wording import plural
from rarefy.pipeline.verdict.history import History, machine_of
from rarefy.pipeline.verdict.history_numbers import Past
from rarefy.pipeline.verdict.verdict import BudgetResult

FEWEST: Final = 3
"""Degrees of freedom: with fewer, Student's quantile would make any interval useless."""

NEWEST: Final = 500
"""Verdicts that are looked at."""

Pair = tuple[str | None, ...]
"""What is the same of two sessions that timed the same bundle beside the same baseline."""


class Timed(NamedTuple):
    """What of a session a ratio is of; ``target`` and ``caches`` as in a budget."""

    metric: str
    target: str | None
    caches: str


@dataclass(frozen=True)
class Spread:
    """The deviation of a ratio's logarithm between sessions, estimated from some of them."""

    deviation: float
    freedom: int
    sessions: int

    @property
    def reach(self) -> float:
        """How far, on a log scale, the ratio of one session reaches to each side at 95 %."""
        from scipy.stats import t

        return self.deviation * float(t.ppf(0.975, self.freedom))

    @property
    def text(self) -> str:
        return f"{math.expm1(self.reach):.1%} over {plural(self.sessions, 'session')}"


def of_history(path: Path, measured: Measurements, before: str = "") -> dict[Timed, Spread]:
    """Return what the history in a file says of the machine of some measurements; see ``spreads``.

    A history that cannot be read says nothing: it must not fail a run.
    """
    try:
        pasts = History(path).verdicts(limit=NEWEST)
    except RarefyError:
        return {}
    return spreads(pasts, machine_of(measured).digest, before)


def spreads(pasts: Iterable[Past], machine: str, before: str = "") -> dict[Timed, Spread]:
    """Return the spread of each ratio that sessions on a machine have measured often enough.

    Args:
        pasts: The history.
        machine: The digest of the machine; see ``history_numbers.Machine``.
        before: Sessions that ended later are left out, so that a verdict that is repeated from the
            cache stays what it was; "" leaves out none.
    """
    groups: dict[Timed, dict[Pair, list[float]]] = defaultdict(lambda: defaultdict(list))
    for past in pasts:
        if past.again or past.evidence or past.machine.digest != machine:
            continue
        if before and past.measured >= before:
            continue
        for (timed, pair), log in _logs(past).items():
            groups[timed][pair].append(log)
    spread_of = {}
    for timed, by_pair in groups.items():
        spread = _pooled(by_pair.values())
        if spread is not None:
            spread_of[timed] = spread
    return spread_of


def _logs(past: Past) -> dict[tuple[Timed, Pair], float]:
    """Return the logarithms of a verdict's ratios, by what they are of."""
    logs: dict[tuple[Timed, Pair], float] = {}
    for result in past.budgets:
        ratio = _ratio(result)
        if ratio is None:
            continue
        against = result.against or ""
        baseline = past.baselines.get(against)
        pair = past.recipe, past.bundle, result.form, against, baseline
        timed = Timed(result.metric, result.target, result.caches)
        logs[timed, pair] = math.log(ratio)
    return logs


def check(result: BudgetResult, spread_of: Mapping[Timed, Spread]) -> BudgetResult:
    """Return a result as it is, or inconclusive if another session may have ended otherwise."""
    timed = Timed(result.metric, result.target, result.caches)
    spread = spread_of.get(timed)
    ratio = _ratio(result)
    if spread is None or ratio is None or result.outcome == "inconclusive":
        return result
    reach = math.exp(spread.reach)
    ends = [_value(result, ratio / reach), _value(result, ratio * reach)]
    low, high = sorted(ends)
    if not low <= result.limit <= high:
        return result
    reason = (
        f"{result.reason}; inconclusive because this interval is of one session, and sessions on "
        f"this machine differ by {spread.text}"
    )
    changes = {"outcome": "inconclusive", "reason": reason, "low": low, "high": high}
    return result.model_copy(update=changes)


def _value(result: BudgetResult, ratio: float) -> float:
    """Return what a budget's value is at a ratio of two times; see ``_ratio``."""
    if result.form != "max_regression":
        return ratio
    if known(result.metric).kind == "throughput":
        return 1 - 1 / ratio
    return ratio - 1


def _ratio(result: BudgetResult) -> float | None:
    """Return the ratio of two times that a result is about; None if it is about none."""
    metric = known(result.metric)
    if not metric.timed or result.value is None:
        return None
    ratio = result.value
    if result.form == "max_regression" and metric.kind == "throughput":
        remaining = 1 - ratio  # a share of the rows a second is lost
        ratio = 1 / remaining if remaining else math.inf
    elif result.form == "max_regression":
        ratio += 1
    elif metric.kind != "speedup" and result.form != "min_speedup":
        return None
    if 0 < ratio < math.inf:
        return ratio
    return None


def _pooled(groups: Iterable[Sequence[float]]) -> Spread | None:
    """Return the deviation within groups, pooled; None if it has too few degrees of freedom."""
    freedom, sessions, squares = 0, 0, 0.0
    for logs in groups:
        if len(logs) < 2:
            continue
        sessions += len(logs)
        freedom += len(logs) - 1
        squares += float(np.var(logs)) * len(logs)
    if freedom < FEWEST:
        return None
    deviation = math.sqrt(squares / freedom)
    return Spread(deviation, freedom, sessions)
