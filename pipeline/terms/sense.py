"""Sanity checks on budgets: known metrics, applicable forms, limits that decide something."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pipeline.terms.budget import Budget
from pipeline.terms.metrics import METRICS
from pipeline.terms.naming import hint


def check(budgets: Iterable[Budget]) -> list[str]:
    """Return the problems that budgets have before anything is measured, one sentence each.

    Problems are unknown metrics, forms that do not apply to their metric, limits that every model
    or no model can meet, a target for a metric that is not measured per target, and contradictory
    bounds.
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
                    f"the budgets for {' and '.join(names)} contradict each other: "
                    f"at least {floor.limit:g} and at most {ceiling.limit:g}"
                )
    return problems


def _senseless(budget: Budget) -> str | None:
    """Return why every model or no model would meet a limit. Returns None for a useful limit."""
    known, limit = METRICS[budget.metric], budget.limit
    prefix = f"budget {budget.metric}: {budget.form} {limit:g}"
    meant = f"did you mean '{limit:g} %'?"
    if budget.target and not known.timed:
        return (
            f"budget {budget.metric}: this metric is measured once, on the first target; remove "
            f"'target: {budget.target}'"
        )
    if budget.form == "max_drop" and limit >= 1:
        return f"{prefix} is {limit * 100:g} points, which every model meets; {meant}"
    if budget.form == "max_regression" and known.kind == "score" and limit >= 1:
        return f"{prefix} is {limit * 100:g} %, which every model meets; {meant}"
    least, greatest = known.ends
    least = 0.0 if math.isinf(least) else least  # times and sizes
    lowest = least if budget.form == "min" else 0.0
    if budget.form in ("min", "min_retained") and limit <= lowest:
        return f"{prefix} is met by every model; set a minimum above {lowest:g}"
    if budget.form == "min_retained" and limit > 1:
        return f"{prefix} requires more than the reference's own value; {meant}"
    if budget.form in ("min_speedup", "min_shrink") and limit <= 0:
        return f"{prefix} is met by every model; set a factor above 0"
    if budget.form == "min" and known.unit == "%" and limit > 1:
        return f"{prefix} is {limit * 100:g} %, which no model can meet; {meant}"
    if budget.form == "max" and known.unit == "%" and limit >= 1:
        return f"{prefix} is {limit * 100:g} %, which every model meets; {meant}"
    if budget.form == "min" and limit > greatest:
        return f"{prefix} can never be met: {budget.metric} is never above {greatest:g}"
    if budget.form == "max" and limit >= greatest:
        return f"{prefix} is met by every model: {budget.metric} is never above {greatest:g}"
    if budget.form == "max" and limit < least:
        return f"{prefix} can never be met: {budget.metric} is never below {least:g}"
    if budget.form == "max" and limit == 0 and not known.from_rows:
        return f"{prefix} can never be met: {budget.metric} is never 0"
    return None


def _contradict(floor: Budget, ceiling: Budget) -> bool:
    """Return whether no measurement meets both: the floored metric never exceeds the other."""
    meet = floor.target == ceiling.target or None in (floor.target, ceiling.target)
    meet = meet and floor.caches == ceiling.caches
    return meet and _never_more(floor.metric, ceiling.metric) and floor.limit > ceiling.limit


def _never_more(one: str, other: str) -> bool:
    """Return whether ``one`` never exceeds ``other``.

    A lower percentile never exceeds a higher one, and the model call alone never takes longer than
    the call with tokenization.
    """
    if one == other:
        return True
    clock, _, percentile = one.rpartition("_p")
    longer, _, higher = other.rpartition("_p")
    order = ("latency", "end_to_end")
    if clock not in order or longer not in order:
        return False
    return order.index(clock) <= order.index(longer) and int(percentile) <= int(higher)


def misfit(budget: Budget) -> str | None:
    """Return why a budget's metric or form is invalid. Returns None if both are valid."""
    known = METRICS.get(budget.metric)
    if known is None:
        return f"unknown metric {budget.metric!r}{hint(budget.metric, METRICS)}"
    if budget.form not in known.forms:
        forms = ", ".join(sorted(known.forms))
        return f"budget {budget.metric}: {budget.form!r} does not apply to this metric; use {forms}"
    return None
