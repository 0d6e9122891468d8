"""What to do about a budget that is missed or undecided: one line, and the page that says more."""

from __future__ import annotations

from typing import Final, NamedTuple

from rarefy.pipeline.measure.measurements import Measurements
from rarefy.pipeline.report import guide
from rarefy.pipeline.terms import metrics
from rarefy.pipeline.terms.metrics import Kind
from rarefy.pipeline.terms.wording import plural
from rarefy.pipeline.verdict.verdict import BudgetResult

LONGER: Final = 300
"""Seconds of timing that are advised if shorter ones did not decide a budget."""


class Advice(NamedTuple):
    """A line, and the file of the documentation that says more."""

    text: str
    page: str


_ACCURATE: Final = Advice(
    "Retain more layers, distill on more text, or quantize to int8 instead of 4 bits",
    guide.ACCURACY,
)
_FAST: Final = Advice(
    "Distill to fewer layers, prune, quantize, or set provider: openvino", guide.SPEED
)
_SMALL: Final = Advice("Quantize, or remove layers, heads or unused vocabulary", guide.SIZE)
_LINEAR: Final = Advice("Use the linear model, or train on more rows", guide.LINEAR)
_UNMEASURED: Final = Advice("Correct what the reason names, and run again", guide.UNMEASURED)
_MISSED: Final[dict[Kind, Advice]] = {
    "score": _ACCURATE,
    "error": _ACCURATE,
    "agreement": _ACCURATE,
    "divergence": _ACCURATE,
    "latency": _FAST,
    "speedup": _FAST,
    "throughput": _FAST,
    "cold_start": _SMALL,
    "count": _SMALL,
}


def of(budget: BudgetResult, measured: Measurements | None) -> Advice:
    """Return the advice on a budget that is not met."""
    if budget.outcome == "inconclusive":
        return Advice(_undecided(budget, measured), guide.INCONCLUSIVE)
    if budget.is_linear_baseline:
        return _LINEAR
    if budget.value is None:
        return _UNMEASURED
    return _MISSED[metrics.known(budget.metric).kind]


def _undecided(budget: BudgetResult, measured: Measurements | None) -> str:
    shortfall = _shortfall(budget, measured)
    if shortfall:
        return f"{shortfall}; train it further, or use more eval rows"
    metric = metrics.known(budget.metric)
    if metric.timed or metric.kind == "cold_start":
        return of_timing(measured, budget.target)
    if measured is None or not measured.truth:
        return "Use more eval rows"
    rows = plural(len(measured.truth), "eval row")
    return f"{rows} cannot decide this margin; use more eval rows"


def _shortfall(budget: BudgetResult, measured: Measurements | None) -> str | None:
    """Return that the model that a budget compares with has not been shown to have learned."""
    from rarefy.pipeline.verdict.judge import References

    if measured is None or budget.is_linear_baseline:
        return None
    reason = References(measured).shortfall(budget)
    if reason is None:
        return None
    return reason.partition(": its ")[0]


def of_timing(measured: Measurements | None, target: str | None = None) -> str:
    """Return why times on a target, or on any, did not decide a budget, and what would help."""
    timings = []
    if measured is not None:
        timings = [timed for name, timed in measured.latency.items() if target in (None, name)]
    for timed in timings:
        reasons = [timed.throttled, *timed.busy]
        for reason in filter(None, reasons):
            return (
                f"The machine was busy ({reason}); use a quieter machine, or "
                f"validate: {{seconds: {LONGER}}}"
            )
    if all(timed.seconds < LONGER for timed in timings):
        return f"Too few calls were timed; set validate: {{seconds: {LONGER}}}"
    return "The calls that were timed do not decide it; use a quieter machine"
