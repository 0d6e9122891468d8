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
from rarefy.pipeline.terms.metrics import METRICS
from rarefy.pipeline.terms.wording import plural
from rarefy.pipeline.verdict.history import History, machine_of
from rarefy.pipeline.verdict.history_numbers import Past
from rarefy.pipeline.verdict.verdict import BudgetResult

FEWEST: Final = 3
"""Degrees of freedom: with fewer, Student's quantile would make any interval useless."""

NEWEST: Final = 500
"""Verdicts that are looked at."""


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
    groups: dict[Timed, dict[tuple[str | None, ...], list[float]]] = defaultdict(dict)
    for past in pasts:
        is_later = bool(before) and past.measured >= before
        if past.again or past.evidence or past.machine.digest != machine or is_later:
            continue
        seen = set()
        for result in past.budgets:
            ratio = _ratio(result)
            against = result.against or ""
            same = (past.recipe, past.bundle, result.form, against, past.baselines.get(against))
            timed = Timed(result.metric, result.target, result.caches)
            if ratio is None or (timed, same) in seen:
                continue
            seen.add((timed, same))
            groups[timed].setdefault(same, []).append(math.log(ratio))
    found = {}
    for timed, by_pair in groups.items():
        spread = _pooled([logs for logs in by_pair.values() if len(logs) > 1])
        if spread is not None:
            found[timed] = spread
    return found


def check(result: BudgetResult, found: Mapping[Timed, Spread]) -> BudgetResult:
    """Return a result as it is, or inconclusive if another session may have ended otherwise."""
    spread = found.get(Timed(result.metric, result.target, result.caches))
    ratio = _ratio(result)
    if spread is None or ratio is None or result.outcome not in ("pass", "fail"):
        return result
    offset = 1 if result.form == "max_regression" else 0
    low, high = ratio * math.exp(-spread.reach), ratio * math.exp(spread.reach)
    if not low <= result.limit + offset <= high:
        return result
    reason = (
        f"{result.reason}; inconclusive because this interval is of one session, and sessions on "
        f"this machine differ by {spread.text}"
    )
    bounds = {"low": low - offset, "high": high - offset}
    return result.model_copy(update={"outcome": "inconclusive", "reason": reason, **bounds})


def _ratio(result: BudgetResult) -> float | None:
    """Return the ratio of two times that a result is about; None if it is about none."""
    metric = METRICS.get(result.metric)
    if metric is None or not metric.timed or result.value is None:
        return None
    if result.form == "max_regression":
        ratio = 1 + result.value
    elif metric.kind == "speedup" or result.form == "min_speedup":
        ratio = result.value
    else:
        return None
    return ratio if 0 < ratio < math.inf else None


def _pooled(groups: Sequence[Sequence[float]]) -> Spread | None:
    """Return the deviation within groups, pooled; None if it has too few degrees of freedom."""
    freedom = sum(len(logs) - 1 for logs in groups)
    if freedom < FEWEST:
        return None
    squares = sum(float(np.var(logs)) * len(logs) for logs in groups)
    return Spread(math.sqrt(squares / freedom), freedom, sum(map(len, groups)))
