"""Formatting of numbers and units for people: in sentences, tables and on the terminal."""

from __future__ import annotations

import math

from pipeline.terms.interval import Interval

_BYTES = ("B", "kB", "MB", "GB", "TB")
_COUNTS = ("", "k", "M", "G")
_SPANS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def significant(value: float) -> str:
    """Format with three significant digits and no exponent: 0.0421, 4.20, 421, 1,234."""
    decimals = 2 - math.floor(math.log10(abs(value))) if value and math.isfinite(value) else 2
    return f"{value:,.{min(max(decimals, 0), 6)}f}"


def number(value: float) -> str:
    """Format with three significant digits and no trailing zeros: 0.0421, 4.2, 421, 1,234."""
    text = significant(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def size(value: float) -> str:
    """Format a number of bytes in decimal units: 82.5 MB."""
    return _scaled(value, _BYTES)


def count(value: float) -> str:
    """Format a number without a unit: a count as 22.7 M, a correlation as 0.861."""
    return _scaled(value, _COUNTS) if float(value).is_integer() else number(value)


def milliseconds(value: float) -> str:
    """Format a time in ms: 4.2 ms."""
    return f"{number(value)} ms"


def percent(value: float) -> str:
    """Format a fraction as a percentage with one decimal: 83.2 %."""
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    """Format a difference of fractions in percentage points: 0.35 points."""
    return f"{100 * value:.2f} points"


def signed(value: float) -> str:
    """Format a difference of fractions in percentage points with its sign: +1.20, −0.35."""
    return f"{100 * value:+.2f}".replace("-", "−")


def times(value: float) -> str:
    """Format a ratio: 5.21×."""
    return f"{significant(value)}×"


def duration(seconds: float) -> str:
    """Format a duration in at most two units: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min, 3 d."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    at = next(at for at, (length, _) in enumerate(_SPANS) if whole >= length)
    parts = []
    for length, unit in _SPANS[at : at + 2]:
        amount, whole = divmod(whole, length)
        parts += [f"{amount} {unit}"] if amount else []
    return " ".join(parts)


def plural(amount: int, noun: str) -> str:
    """Format a count with its noun: 1 thread, 1,234 rows, 2 queries."""
    return f"{amount:,} {noun if amount == 1 else plurals(noun)}"


def plurals(noun: str) -> str:
    """Return the plural of a regular noun: rows, queries, days, branches."""
    if noun[-1] == "y" and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("ch", "sh", "s", "x")) else f"{noun}s"


def quantity(value: float, unit: str) -> str:
    """Format a metric's value in its unit; a percentage gets two decimals, as budgets need."""
    if unit == "%":
        return f"{_hundredths(value)} %"
    return {"×": times, "ms": milliseconds, "B": size}.get(unit, count)(value)


def bounds(interval: Interval, unit: str) -> str:
    """Format a value in its unit with its interval: ``4.93× [4.71, 5.12]``."""
    value, low, high = interval
    if low == value == high:
        return quantity(value, unit)
    word = {"%": _hundredths, "×": significant}.get(unit, number)
    return f"{quantity(value, unit)} [{word(low)}, {word(high)}]"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    step = 0
    while abs(value) >= 1000 and step < len(units) - 1:
        value, step = value / 1000, step + 1
    return f"{number(value) if step else f'{value:.0f}'} {units[step]}".rstrip()


def _hundredths(value: float) -> str:
    return f"{value * 100:.2f}".rstrip("0").rstrip(".")
