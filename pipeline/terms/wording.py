"""Formatting of numbers, units and texts for people: in sentences, tables and Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from rarefy.pipeline.terms.credentials import redact
from rarefy.pipeline.terms.interval import Interval

_BYTES = ("B", "kB", "MB", "GB", "TB")
_COUNTS = ("", "k", "M", "G")
_MARKUP = re.compile(r"([\\`*_\[\]<>|#&~])")
_SPANS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


Form = Callable[[float, int], str]
"""Formats a number with so many digits more than usual."""
_MORE = 4


def significant(value: float, more: int = 0) -> str:
    """Format with three significant digits and no exponent: 0.0421, 4.20, −421, 1,234."""
    decimals = 2
    if value and math.isfinite(value):
        decimals -= math.floor(math.log10(abs(value)))
    shown = min(max(decimals + more, 0), 6 + more)
    return _minus(f"{value:,.{shown}f}")


def number(value: float, more: int = 0) -> str:
    """Format with three significant digits and no trailing zeros: 0.0421, 4.2, 421, 1,234."""
    text = significant(value, more)
    if "." not in text:
        return text
    return text.rstrip("0").rstrip(".")


def size(value: float, more: int = 0) -> str:
    """Format a number of bytes in decimal units: 82.5 MB."""
    return _scaled(value, _BYTES, more)


def count(value: float, more: int = 0) -> str:
    """Format a number without a unit: a count as 22.7 M, a correlation as 0.861."""
    if float(value).is_integer():
        return _scaled(value, _COUNTS, more)
    return number(value, more)


def milliseconds(value: float, more: int = 0) -> str:
    """Format a time in ms: 4.2 ms."""
    return f"{number(value, more)} ms"


def rate(value: float, more: int = 0) -> str:
    """Format a throughput: 1,240 rows/s."""
    return f"{number(value, more)} rows/s"


def percent(value: float, more: int = 0) -> str:
    """Format a fraction as a percentage with one decimal: 83.2%."""
    return f"{_percentage(value, more)}%"


def points(value: float, more: int = 0) -> str:
    """Format a difference of fractions in percentage points: 0.35 points, 1.00 point."""
    text = _points(value, more)
    unit = "point" if _trimmed(text) == "1" else "points"
    return f"{text} {unit}"


def signed(value: float, more: int = 0) -> str:
    """Format a difference of fractions in percentage points with its sign: +1.20, −0.35."""
    decimals = 2 + more
    return _minus(f"{100 * value:+z.{decimals}f}")


def signed_number(value: float, more: int = 0) -> str:
    """Format a difference of plain numbers with its sign: +0.012, −3.4."""
    sign = "+" if value > 0 else ""
    return sign + number(value, more)


def times(value: float, more: int = 0) -> str:
    """Format a ratio: 5.21×."""
    return f"{significant(value, more)}×"


def exactly(form: Form, value: float) -> str:
    """Format a limit with the digits that it was given: 98.65% not as 98.7%, 5× not as 5.00×."""
    return _trimmed(form(value, _MORE))


def beside(form: Form, value: float, limit: float) -> str:
    """Format a value, with more digits if rounding would put it on, or beyond, another limit.

    Of two numbers that differ when they are rounded alike, the exact limit is on the same side.
    """
    for more in range(_MORE + 1):
        text = form(value, more)
        if _trimmed(text) != _trimmed(form(limit, more)):
            return text
    return form(value, 0)


def _trimmed(text: str) -> str:
    """Return a text whose number has no trailing zeros: 97.0% and 97.00% are the same."""
    text = re.sub(r"(\.\d*?)0+(?!\d)", r"\1", text)
    return re.sub(r"\.(?!\d)", "", text)


def duration(seconds: float) -> str:
    """Format a duration in at most two units: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min, 3 d."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    rest = round(seconds)
    first = next(at for at, (length, _) in enumerate(_SPANS) if rest >= length)
    parts = []
    for length, unit in _SPANS[first : first + 2]:
        amount, rest = divmod(rest, length)
        if amount:
            parts.append(f"{amount} {unit}")
    return " ".join(parts)


def about(seconds: float) -> str:
    """Format a rough duration with one unit: about 5 s, about 20 s, about 4 min, about 1.5 h."""
    fives = max(round(seconds / 5), 1)
    if fives < 12:
        return f"about {5 * fives} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min"
    hours = seconds / 3600
    return f"about {hours:.1f} h"


def plural(amount: int, noun: str) -> str:
    """Format a count with its noun: 1 thread, 1,234 rows, 2 queries."""
    if amount != 1:
        noun = plurals(noun)
    return f"{amount:,} {noun}"


def plurals(noun: str) -> str:
    """Return the plural of a regular noun: rows, queries, days, branches."""
    if noun[-1] == "y" and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    if noun.endswith(("ch", "sh", "s", "x")):
        return f"{noun}es"
    return f"{noun}s"


def escape(text: str) -> str:
    """Escape a text for a table cell in Markdown: no line break, no markup, no credentials."""
    line = " ".join(redact(text).split())
    return _MARKUP.sub(r"\\\1", line)


def form_of(unit: str) -> Form:
    """Return how a metric's value is formatted, by its unit."""
    return _FORMS.get(unit, count)


def quantity(value: float, unit: str, limit: float | None = None) -> str:
    """Format a metric's value in its unit.

    ``limit``: what it is compared with; see ``beside``.
    """
    form = form_of(unit)
    if limit is None:
        return form(value, 0)
    return beside(form, value, limit)


def required(limit: float, unit: str) -> str:
    """Format a limit in its unit; see ``exactly``."""
    return exactly(form_of(unit), limit)


def bounds(interval: Interval, unit: str, limit: float | None = None) -> str:
    """Format a value in its unit with its interval: ``4.93× [4.71, 5.12]``.

    ``limit``: what it is compared with; see ``beside``.
    """
    value, low, high = interval
    middle = quantity(value, unit, limit)
    if low == value == high:
        return middle
    form = _BOUND_FORMS.get(unit, number)
    ends = [form(end, 0) if limit is None else beside(form, end, limit) for end in (low, high)]
    return f"{middle} [{', '.join(ends)}]"


def _scaled(value: float, units: tuple[str, ...], more: int) -> str:
    step = 0
    while abs(value) >= 1000 and step < len(units) - 1:
        value /= 1000
        step += 1
    text = number(value, more) if step else f"{value:.0f}"
    return f"{text} {units[step]}".rstrip()


def _percentage(value: float, more: int = 0) -> str:
    decimals = 1 + more
    return _minus(f"{100 * value:z.{decimals}f}")


def _points(value: float, more: int = 0) -> str:
    decimals = 2 + more
    return _minus(f"{100 * value:z.{decimals}f}")


def _minus(text: str) -> str:
    return text.replace("-", "−")


_FORMS: dict[str, Form] = {
    "%": percent,
    "points": points,
    "×": times,
    "ms": milliseconds,
    "rows/s": rate,
    "B": size,
}
_BOUND_FORMS: dict[str, Form] = {"%": _percentage, "points": _points, "×": significant}
"""How the bounds of an interval are formatted, beside a value that has its unit."""
