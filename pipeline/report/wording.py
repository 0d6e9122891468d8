"""Format numbers with their units, without line breaks inside, and budgets in words."""

from __future__ import annotations

from typing import Protocol

from pipeline.store.artifact import Kind
from pipeline.terms import metrics, wording
from pipeline.terms.wording import Form
from pipeline.verdict.verdict import BudgetResult

NBSP = "\u00a0"
plural, plurals, signed = wording.plural, wording.plurals, wording.signed
significant, times = wording.significant, wording.times


class _Unbroken(Protocol):
    def __call__(self, value: float, more: int = 0) -> str: ...


def unbroken(text: str) -> str:
    """Return a text with no-break spaces, so that a number stays with its unit."""
    return text.replace(" ", NBSP)


def _unbroken(form: Form) -> _Unbroken:
    return lambda value, more=0: unbroken(form(value, more))


size, count, milliseconds, percent, points = map(
    _unbroken,
    (wording.size, wording.count, wording.milliseconds, wording.percent, wording.points),
)


def duration(seconds: float) -> str:
    """Return a duration as ``terms.wording`` does."""
    return unbroken(wording.duration(seconds))


def share(value: float) -> str:
    """Return a share of an axis as a percentage, with as many digits as it needs: 82.5 %."""
    return f"{100 * value:.3g}{NBSP}%"


def minute(time: str) -> str:
    """Return a time (ISO 8601) without its seconds: 2025-03-03 09:30."""
    return time[:16].replace("T", " ")


def score(value: float, metric: str | None = None) -> str:
    """Return a task's score: a share as a percentage, anything else as a plain number.

    A metric that is not in the table is taken for a share if it may be one.
    """
    share = metrics.unit(metric) == "%" if metric in metrics.METRICS else -1 <= value <= 1
    return percent(value) if share else significant(value)


def amount(metric: str, form: str | None, value: float) -> str:
    """Return a metric's value, or the number that a budget's form limits, with its unit."""
    return _form(metric, form)(value, 0)


def limit(metric: str, form: str | None, value: float) -> str:
    """Return a limit with its unit, and with the digits that it was given."""
    return wording.exactly(_form(metric, form), value)


def _form(metric: str, form: str | None) -> Form:
    return _unbroken(wording.form_of(metrics.unit(metric, form)))


def budget_value(budget: BudgetResult, value: float) -> str:
    """Return a value or bound of a budget with its unit, told apart from the limit."""
    return wording.beside(_form(budget.metric, budget.form), value, budget.limit)


def asked(budget: BudgetResult) -> str:
    """Return a budget's requirement in words: ``at least 5.00× faster than teacher``."""
    asked = limit(budget.metric, budget.form, budget.limit)
    return {
        "max": f"at most {asked}",
        "min": f"at least {asked}",
        "max_drop": f"at most {asked} below {budget.against}",
        "min_retained": f"at least {asked} of {budget.against}",
        "min_speedup": f"at least {asked} faster than {budget.against}",
        "min_shrink": f"at least {asked} smaller than {budget.against}",
        "max_regression": f"at most {asked} worse than {budget.against}",
    }.get(budget.form, f"{budget.form} {asked}")


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
