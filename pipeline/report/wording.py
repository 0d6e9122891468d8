"""Format numbers with their units, without line breaks inside, and budgets in words."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pipeline.store.artifact import Kind
from pipeline.terms import metrics, wording
from pipeline.verdict.verdict import BudgetResult

NBSP = "\u00a0"
plural, plurals, signed = wording.plural, wording.plurals, wording.signed
significant, times = wording.significant, wording.times


def unbroken(text: str) -> str:
    """Return a text with no-break spaces, so that a number stays with its unit."""
    return text.replace(" ", NBSP)


def _unbroken(form: Callable[[float], str]) -> Callable[[float], str]:
    return lambda value: unbroken(form(value))


size, count, milliseconds, percent, points, duration = map(
    _unbroken,
    (
        *(wording.size, wording.count, wording.milliseconds),
        *(wording.percent, wording.points, wording.duration),
    ),
)


def score(value: float, metric: str | None = None) -> str:
    """Return a task's score: a share as a percentage, anything else as a plain number.

    A metric that is not in the table is taken for a share if it may be one.
    """
    if metric in metrics.METRICS:
        return percent(value) if metrics.unit(metric) == "%" else significant(value)
    return percent(value) if -1 <= value <= 1 else significant(value)


def amount(metric: str, form: str | None, value: float) -> str:
    """Return a metric's value, or the number that a budget's form limits, with its unit."""
    plain = count if metrics.known(metric).kind == "count" else partial(score, metric=metric)
    units = {"%": percent, "points": points, "×": times, "ms": milliseconds, "B": size}
    return units.get(metrics.unit(metric, form), plain)(value)


def budget_value(budget: BudgetResult, value: float) -> str:
    """Return a number of a budget (limit, value or bound) with its unit."""
    return amount(budget.metric, budget.form, value)


def asked(budget: BudgetResult) -> str:
    """Return a budget's requirement in words: ``at least 5.00× faster than teacher``."""
    limit = budget_value(budget, budget.limit)
    return {
        "max": f"at most {limit}",
        "min": f"at least {limit}",
        "max_drop": f"at most {limit} below {budget.against}",
        "min_retained": f"at least {limit} of {budget.against}",
        "min_speedup": f"at least {limit} faster than {budget.against}",
        "min_shrink": f"at least {limit} smaller than {budget.against}",
        "max_regression": f"at most {limit} worse than {budget.against}",
    }.get(budget.form, f"{budget.form} {limit}")


def interval(budget: BudgetResult) -> str | None:
    """Return the bounds of a budget's value; None if the value is exact or missing."""
    if budget.low is None or budget.high is None or budget.low == budget.high:
        return None
    return f"{budget_value(budget, budget.low)} – {budget_value(budget, budget.high)}"


def kind(name: str) -> str:
    """Return the display name of an artifact's kind."""
    return "ONNX bundle" if name == Kind.BUNDLE else name


def shorten(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` characters, with an ellipsis if it was cut."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
