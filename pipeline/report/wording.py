"""Format numbers with their units, without line breaks inside, and budgets in words."""

from __future__ import annotations

from typing import Protocol

from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms import metrics, wording
from rarefy.pipeline.terms.wording import Form
from rarefy.pipeline.verdict.verdict import LINEAR_BASELINE, BudgetResult, CellResult

NBSP = "\u00a0"
plural, plurals = wording.plural, wording.plurals
signed, signed_number = wording.signed, wording.signed_number
significant, times = wording.significant, wording.times


_REQUIREMENTS = {
    "max": "at most {limit}",
    "min": "at least {limit}",
    "max_drop": "at most {limit} below {against}",
    "max_increase": "at most {limit} above {against}",
    "min_retained": "at least {limit} of {against}",
    "min_speedup": "at least {limit} faster than {against}",
    "min_shrink": "at least {limit} smaller than {against}",
    "max_regression": "at most {limit} worse than {against}",
}


class _Format(Protocol):
    def __call__(self, value: float, more: int = 0) -> str: ...


def unbroken(text: str) -> str:
    """Return a text with no-break spaces, so that a number stays with its unit."""
    return text.replace(" ", NBSP)


def _unbroken(form: Form) -> _Format:
    return lambda value, more=0: unbroken(form(value, more))


size = _unbroken(wording.size)
count = _unbroken(wording.count)
milliseconds = _unbroken(wording.milliseconds)
percent = _unbroken(wording.percent)
points = _unbroken(wording.points)


def duration(seconds: float) -> str:
    """Return a duration as ``terms.wording`` does."""
    return unbroken(wording.duration(seconds))


def share(value: float) -> str:
    """Return a share of an axis as a percentage, with as many digits as it needs: 82.5%."""
    return f"{100 * value:.3g}%"


def minute(time: str) -> str:
    """Return a time (ISO 8601) without its seconds: 2025-03-03 09:30."""
    return time[:16].replace("T", " ")


def score(value: float, metric: str | None = None) -> str:
    """Return a task's score: a share as a percentage, anything else as a plain number.

    A metric that is not in the table is taken for a share if it may be one.
    """
    is_share = -1 <= value <= 1
    if metric and metrics.find(metric):
        is_share = metrics.unit(metric) == "%"
    if is_share:
        return percent(value)
    return significant(value)


def amount(metric: str, form: str | None, value: float) -> str:
    """Return a metric's value, or the number that a budget's form limits, with its unit."""
    return _form(metric, form)(value, 0)


def limit(metric: str, form: str | None, value: float) -> str:
    """Return a limit with its unit, and with the digits that it was given."""
    return wording.exactly(_form(metric, form), value)


def _form(metric: str, form: str | None) -> Form:
    unit = metrics.unit(metric, form)
    return _unbroken(wording.form_of(unit))


def budget_value(budget: BudgetResult, value: float) -> str:
    """Return a value or bound of a budget with its unit, told apart from the limit.

    A difference has the sign of candidate − reference, as in the reason: a drop of 2 points is
    −2.00 points. A regression is so much better or worse.
    """
    form = _form(budget.metric, budget.form)
    if budget.form == "max_regression":
        return _better_or_worse(budget, value)
    if budget.form not in metrics.DIFFERENCES:
        return wording.beside(form, value, budget.limit)
    sign = 1
    if budget.form == "max_drop":
        sign = -1
    unit = metrics.unit(budget.metric, budget.form)
    shown = wording.signed_number
    if unit == "points":
        shown = wording.signed
    text = wording.beside(shown, sign * value, sign * budget.limit)
    return unbroken(f"{text} {unit}".rstrip())


def _better_or_worse(budget: BudgetResult, loss: float) -> str:
    """Return a regression as ``2.0% worse``, its opposite as ``2.0% better``."""
    word = "worse"
    limit = budget.limit
    if loss < 0:
        word = "better"
        limit = -limit
    text = wording.beside(percent, abs(loss), limit)
    return unbroken(f"{text} {word}")


def requirement(budget: BudgetResult) -> str:
    """Return a budget's requirement in words: ``at least 5.00× faster than teacher``."""
    if budget.is_linear_baseline:
        return f"above the {LINEAR_BASELINE}"
    amount = limit(budget.metric, budget.form, budget.limit)
    if budget.form not in _REQUIREMENTS:
        return f"{budget.form} {amount}"
    return _REQUIREMENTS[budget.form].format(limit=amount, against=budget.against)


def interval(budget: BudgetResult, of: BudgetResult | CellResult | None = None) -> str | None:
    """Return the bounds of a budget's value; None if the value is exact or missing.

    ``of``: one of its cells, whose bounds they are instead.
    """
    result = of or budget
    if result.low is None or result.high is None or result.low == result.high:
        return None
    ends = [result.low, result.high]
    if budget.form == "max_drop":
        ends.reverse()
    low, high = [budget_value(budget, end) for end in ends]
    return span(low, high)


def span(first: str, last: str) -> str:
    """Return an interval of two formatted numbers: ``98.1 to 99.9%``, ``−1.05 to +0.95 points``."""
    unit = last.lstrip("+−0123456789.,")
    if unit and first.endswith(unit):
        first = first.removesuffix(unit)
    return f"{first} to {last}"


def kind(name: str) -> str:
    """Return the display name of an artifact's kind."""
    if name == Kind.BUNDLE:
        return "ONNX bundle"
    return name


def shorten(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` characters, with an ellipsis if it was cut."""
    if len(text) <= limit:
        return text
    return text[: limit - 1].rstrip() + "…"
