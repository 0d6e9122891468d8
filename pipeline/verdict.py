"""Budgets against measurements: pass, fail or inconclusive, each with its reason."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from pipeline.errors import BudgetError, EvidenceError
from pipeline.recipe import Budget, Target

if TYPE_CHECKING:
    from pipeline.measure.measurements import Measurements

Outcome = Literal["pass", "fail", "inconclusive"]
SCHEMA: Final = "rarefy.verdict/2"


class Known(NamedTuple):
    """What a metric is, and the forms of budget that make sense for it.

    ``score`` higher is better, from the rows; ``error`` lower is better, from the rows;
    ``latency`` ms on a target: ``latency_…`` of the model's call alone, ``end_to_end_…`` from text
    to logits; ``cold_start`` ms from a fresh process to its first answer, on the first target;
    ``count`` an exact number, lower is better.
    """

    kind: Literal["score", "error", "agreement", "latency", "speedup", "cold_start", "count"]
    unit: str
    forms: frozenset[str]


_SCORE = Known(
    "score", "%", frozenset({"min", "max", "max_drop", "min_retained", "max_regression"})
)
_LATENCY = Known("latency", "ms", frozenset({"min", "max", "min_speedup", "max_regression"}))
_COUNT = frozenset({"min", "max", "min_shrink", "max_regression"})
KNOWN_METRICS: dict[str, Known] = {
    "accuracy": _SCORE,
    "macro_f1": _SCORE,
    "ece": Known("error", "%", frozenset({"min", "max"})),
    "agreement": Known("agreement", "%", frozenset({"min", "max"})),
    "latency_p50": _LATENCY,
    "latency_p90": _LATENCY,
    "latency_p95": _LATENCY,
    "latency_p99": _LATENCY,
    "end_to_end_p50": _LATENCY,
    "end_to_end_p90": _LATENCY,
    "end_to_end_p95": _LATENCY,
    "end_to_end_p99": _LATENCY,
    "speedup": Known("speedup", "×", frozenset({"min", "max", "min_speedup"})),
    "cold_start": Known("cold_start", "ms", _LATENCY.forms),
    "size": Known("count", "B", _COUNT),
    "memory": Known("count", "B", _COUNT),
    "device_memory": Known("count", "B", _COUNT),
    "parameters": Known("count", "", _COUNT),
}


_TAKES = {"%": "a share", "×": "a factor", "ms": "a time", "B": "a size", "": "a bare number"}


def expects(metric: str, form: str) -> str | None:
    """Return what kind of quantity a budget's limit is; None for a metric that is not known."""
    if form in ("min_speedup", "min_shrink"):
        return "a factor"
    if form not in ("min", "max"):
        return "a share"
    known = KNOWN_METRICS.get(metric)
    return _TAKES[known.unit] if known else None


class BudgetResult(BaseModel):
    """One budget on one target: what was asked, what was measured, and how it came out."""

    model_config = ConfigDict(extra="forbid")

    metric: str
    form: str
    limit: float
    against: str | None = None
    target: str | None = None
    level: Literal["error", "warn"] = "error"
    value: float | None = Field(None, description="None where the metric could not be had")
    low: float | None = None
    high: float | None = None
    outcome: Outcome
    reason: str = Field(description="one sentence with the numbers, for people")


class Verdict(BaseModel):
    """All budgets of a recipe. It fails if an error-level budget fails.

    ``evidence`` says why the measurement itself can carry no verdict, whatever the budgets: the
    machine was throttled half way, or is not the one that the baseline was measured on.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_: Literal["rarefy.verdict/2"] = Field(default=SCHEMA, alias="schema")
    outcome: Outcome
    budgets: list[BudgetResult]
    evidence: list[str] = Field(default_factory=list)

    def exit_code(self, strict: bool) -> int:
        """0 pass; 3 a budget was missed; 4 no verdict: never without evidence, else if strict."""
        if self.outcome == "fail":
            return BudgetError.exit_code
        if self.evidence or (strict and self.outcome == "inconclusive"):
            return EvidenceError.exit_code
        return 0


def check(budgets: Iterable[Budget]) -> list[str]:
    """Return what is wrong with budgets before anything is measured, one sentence each.

    Unknown metrics, forms that make no sense for their metric, limits that nothing or everything
    keeps, a target where none is looked at, and bounds that contradict each other.
    """
    budgets = tuple(budgets)
    problems = [problem for budget in budgets if (problem := misfit(budget))]
    fitting = [budget for budget in budgets if not misfit(budget)]
    problems += [problem for budget in fitting if (problem := _senseless(budget))]
    floors = [budget for budget in fitting if budget.form == "min"]
    ceilings = [budget for budget in fitting if budget.form == "max"]
    for floor in floors:
        for ceiling in ceilings:
            if _contradict(floor, ceiling):
                names = dict.fromkeys((floor.metric, ceiling.metric))
                problems.append(
                    f"budgets of {' and '.join(names)} contradict each other: "
                    f"at least {floor.limit:g} and at most {ceiling.limit:g}"
                )
    return problems


def _senseless(budget: Budget) -> str | None:
    """Return why a limit would be kept by everything or by nothing, None where it would not."""
    known, limit = KNOWN_METRICS[budget.metric], budget.limit
    told = f"budget {budget.metric}: {budget.form} {limit:g}"
    meant = f"did you mean '{limit:g} %'?"
    if budget.target and known.kind not in ("latency", "speedup"):
        return (
            f"budget {budget.metric}: it is measured once, on the first target, and takes no "
            f"'target' (found {budget.target!r})"
        )
    if budget.form == "max_drop" and limit >= 1:
        return f"{told} is {limit * 100:g} points and lets everything through; {meant}"
    if budget.form == "max_regression" and known.kind == "score" and limit >= 1:
        return f"{told} is {limit * 100:g} % and lets everything through; {meant}"
    if budget.form in ("min", "min_retained") and limit <= 0:
        return f"{told} lets everything through; a least value is above 0"
    if budget.form == "min_retained" and limit > 1:
        return f"{told} asks for more than the reference has; {meant}"
    if budget.form in ("min_speedup", "min_shrink") and limit <= 0:
        return f"{told} lets everything through; a factor is above 0"
    if budget.form in ("min", "max") and known.unit == "%" and limit > 1:
        kept = "lets everything through" if budget.form == "max" else "can never be kept"
        return f"{told} is {limit * 100:g} % and {kept}; {meant}"
    if budget.form == "max" and limit < 0:
        return f"{told} can never be kept: it is not below 0"
    return None


def _contradict(floor: Budget, ceiling: Budget) -> bool:
    """Whether no measurement keeps both: what has the floor is never more than the other."""
    meet = floor.target == ceiling.target or None in (floor.target, ceiling.target)
    return meet and _never_more(floor.metric, ceiling.metric) and floor.limit > ceiling.limit


def _never_more(one: str, other: str) -> bool:
    """Whether a metric cannot exceed another: a lower percentile, or the call without its text."""
    if one == other:
        return True
    clock, _, percentile = one.rpartition("_p")
    longer, _, higher = other.rpartition("_p")
    order = ("latency", "end_to_end")
    if clock not in order or longer not in order:
        return False
    return order.index(clock) <= order.index(longer) and int(percentile) <= int(higher)


def misfit(budget: Budget) -> str | None:
    """Return why no measurement could answer a budget: its metric or its form; None if one can."""
    known = KNOWN_METRICS.get(budget.metric)
    if known is None:
        near = difflib.get_close_matches(budget.metric, KNOWN_METRICS, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ";"
        return f"unknown metric {budget.metric!r}{hint} known: {', '.join(KNOWN_METRICS)}"
    if budget.form not in known.forms:
        forms = ", ".join(sorted(known.forms))
        return f"budget {budget.metric}: {budget.form!r} does not apply to it; it takes {forms}"
    return None


def judge(
    budgets: Sequence[Budget], targets: Sequence[Target], measurements: Measurements
) -> Verdict:
    """Evaluate every budget on every target that it applies to.

    A budget that cannot be evaluated fails with its reason. A candidate that answers NaN fails
    the verdict, whatever the budgets are. A target that was throttled half way carries no verdict
    on the times that budgets ask of it: that is said in ``evidence``, and nothing passes.
    """
    from pipeline.measure import judging

    results, clocked = [], set()
    answering = [None, *measurements.elsewhere]
    for place in answering:
        if broken := judging.broken_answers(measurements.on(place)):
            results.append(broken)
    for budget in budgets:
        known = KNOWN_METRICS.get(budget.metric)
        timed = known is not None and known.kind in ("latency", "speedup")
        answered = known is not None and known.kind in ("score", "error", "agreement")
        everywhere: list[str | None] = answering if answered else [None]
        everywhere = [target.name for target in targets] if timed else everywhere
        places = [budget.target] if budget.target else everywhere
        clocked |= {place for place in places if timed}
        if known is not None and known.kind == "cold_start":
            clocked.add(targets[0].name)
        results += [judging.judge_one(budget, place, measurements) for place in places]
    outcomes = {result.outcome for result in results if result.level == "error"}
    worst: Outcome = "pass"
    if "fail" in outcomes:
        worst = "fail"
    elif "inconclusive" in outcomes:
        worst = "inconclusive"
    evidence = [
        f"{name}: {timed.throttled}; its times carry no verdict"
        for name, timed in measurements.latency.items()
        if timed.throttled and name in clocked
    ]
    if evidence and worst == "pass":
        worst = "inconclusive"
    return Verdict(outcome=worst, budgets=results, evidence=evidence)
