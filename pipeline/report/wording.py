"""Numbers as people read them: bytes, milliseconds, shares, and what a budget asks."""

from __future__ import annotations

from pipeline.store.artifact import Kind
from pipeline.terms import metrics
from pipeline.verdict.verdict import BudgetResult

NBSP = "\u00a0"


def significant(value: float) -> str:
    """Return three significant digits without an exponent: 0.0421, 4.21, 421."""
    size = abs(value)
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{decimals}f}"


def _scaled(value: float, base: float, units: tuple[str, ...]) -> str:
    step = 0
    while abs(value) >= base and step < len(units) - 1:
        value, step = value / base, step + 1
    number = f"{value:.0f}" if step == 0 else significant(value)
    return f"{number}{NBSP}{units[step]}".rstrip()


def size(value: float) -> str:
    """Bytes in decimal units: 82.5 MB."""
    return _scaled(value, 1000, ("B", "kB", "MB", "GB", "TB"))


def count(value: float) -> str:
    """A number of things: 22.7 M."""
    return _scaled(value, 1000, ("", "k", "M", "G"))


def milliseconds(value: float) -> str:
    """A time in ms: 4.21 ms."""
    return f"{significant(value)}{NBSP}ms"


def percent(value: float) -> str:
    """A share as per cent with one decimal: 83.2 %."""
    return f"{100 * value:.1f}{NBSP}%"


def points(value: float) -> str:
    """A difference of shares in percentage points."""
    return f"{100 * value:.2f}{NBSP}points"


def times(value: float) -> str:
    """A ratio: 5.21×."""
    return f"{significant(value)}×"


def duration(seconds: float) -> str:
    """A time for people: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f}{NBSP}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{NBSP}s"
    if whole < 3600:
        return f"{whole // 60}{NBSP}min {whole % 60}{NBSP}s"
    return f"{whole // 3600}{NBSP}h {whole % 3600 // 60}{NBSP}min"


def score(value: float) -> str:
    """A task metric: shares as per cent, anything else as a plain number."""
    return percent(value) if -1 <= value <= 1 else significant(value)


def amount(metric: str, value: float) -> str:
    """A metric's absolute value in its unit."""
    known = metrics.known(metric)
    if known.kind == "count":
        return size(value) if known.unit else count(value)
    return {"ms": milliseconds, "×": times}.get(known.unit, score)(value)


def budget_value(budget: BudgetResult, value: float) -> str:
    """A number of a budget (limit, value or bound) in the unit of its form."""
    if budget.form in metrics.FACTORS:
        return times(value)
    if budget.form in ("min_retained", "max_regression"):
        return percent(value)
    if budget.form == "max_drop":
        return points(value) if abs(value) <= 1 else significant(value)
    return amount(budget.metric, value)


def asked(budget: BudgetResult) -> str:
    """What a budget asks, in words: ``at least 5.00× faster than teacher``."""
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
    """The measured bounds of a budget, or None where the value is exact or missing."""
    if budget.low is None or budget.high is None or budget.low == budget.high:
        return None
    return f"{budget_value(budget, budget.low)} – {budget_value(budget, budget.high)}"


def kind(name: str) -> str:
    """An artifact's kind for people."""
    return "ONNX bundle" if name == Kind.BUNDLE else name


def shorten(text: str, limit: int) -> str:
    """Cut a text to ``limit`` characters, with an ellipsis where something was cut."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
