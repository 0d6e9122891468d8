"""Whether budgets make sense: known metrics, fitting forms, limits that can be kept and missed."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.terms.budget import Budget
from pipeline.terms.metrics import METRICS
from pipeline.terms.naming import hint


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
    known, limit = METRICS[budget.metric], budget.limit
    told = f"budget {budget.metric}: {budget.form} {limit:g}"
    meant = f"did you mean '{limit:g} %'?"
    if budget.target and not known.timed:
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
    known = METRICS.get(budget.metric)
    if known is None:
        return f"unknown metric {budget.metric!r}{hint(budget.metric, METRICS)}"
    if budget.form not in known.forms:
        forms = ", ".join(sorted(known.forms))
        return f"budget {budget.metric}: {budget.form!r} does not apply to it; it takes {forms}"
    return None
