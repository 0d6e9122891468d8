"""Formatting of numbers, units and texts for people: in sentences, tables and Markdown."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from rarefy.pipeline.terms.credentials import redact
from rarefy.pipeline.terms.interval import Interval

_BYTES = ("B", "kB", "MB", "GB", "TB")
_COUNTS = ("", "k", "M", "G")
_MARKUP = re.compile(r"([\\`*_\[\]<>|#&~])")
_SPANS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))

Form = Callable[[float, int], str]
"""Formats a number with so many digits more than usual."""
_MORE = 4

INSTEAD: Final = "\ufffd"
_CONTROLS: Final = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]|\r(?!\n)"
)
"""Controls but for tabs and line ends, and marks that turn what follows them around."""
SYNONYMS: Final = {"lr": "learning_rate", "gpu": "cuda", "bs": "batch_size"}
"""What others call it: what it is called here."""
MOST_FILES: Final = 2000
"""Those of a folder among which a mistyped name is looked for: to compare more takes too long."""


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
    """Escape a text for a table cell in Markdown: no line break, no markup, no credentials.

    Control characters are replaced.
    """
    line = " ".join(printable(redact(text)).split())
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


def printable(text: str, instead: str = INSTEAD) -> str:
    """Return a text with ``instead`` for each control character; lines and tabs stay."""
    return _CONTROLS.sub(instead, text)


def escaped_json(text: str) -> str:
    """Return JSON in which control characters are escapes, so that it says the same."""
    return _CONTROLS.sub(_escaped_control, text)


def _escaped_control(control: re.Match[str]) -> str:
    number = ord(control[0])
    return f"\\u{number:04x}"


def nearest(value: Any, candidates: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name most similar to ``value``, the first one in a tie.

    Returns None if no name is similar.
    """
    best, best_ratio = None, cutoff
    for name in candidates:
        ratio = _ratio(name, str(value))
        if ratio > best_ratio or (best is None and ratio == cutoff):
            best, best_ratio = name, ratio
    return best


def _ratio(one: str, other: str) -> float:
    """Return how similar two names are, from 0 to 1."""
    return difflib.SequenceMatcher(None, one, other).ratio()


def hint(value: Any, candidates: Iterable[str]) -> str:
    """Return the end of an error message about an unknown name: a suggestion or all known names."""
    names = list(candidates)
    near = synonym(value, names) or nearest(value, names)
    if near:
        return f", did you mean {near!r}?"
    return f"; known: {', '.join(names) or 'none'}"


def file_hint(path: Path, pattern: str = "*", *, folders: bool = False) -> str:
    """Return the end of an error message about a path that is not there: the most similar name.

    Args:
        path: Where there is no such file.
        pattern: Which files beside it to look at.
        folders: Whether to look at folders instead.

    Returns:
        A suggestion, or "" if no name is similar or the folder cannot be read.
    """
    try:
        entries = itertools.islice(path.parent.glob(pattern), MOST_FILES)
        alike = (entry for entry in entries if entry.is_dir() == folders)
        names = sorted(entry.name for entry in alike if entry.name != path.name)
    except OSError:
        return ""
    near = nearest(path.name, names)
    return f", did you mean {near!r}?" if near else ""


def synonym(value: Any, candidates: Iterable[str]) -> str | None:
    """Return the known name that others call ``value``, or of which that is a word; else None.

    For example, ``f1`` is a word of ``macro_f1``.
    """
    names = list(candidates)
    ours = SYNONYMS.get(str(value))
    if ours in names:
        return ours
    containing = [name for name in names if str(value) in name.split("_")]
    return next(iter(containing), None)


def repeated(names: Iterable[str]) -> str | None:
    """Return the first name that occurs a second time, None if there is none."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def misspelt(name: str, candidates: Iterable[str], cutoff: float = 0.8) -> str | None:
    """Return the known name that ``name`` is probably a typing error of, or None.

    Names that differ in a number or in a short part are different names: ``prod-a`` and ``prod-b``,
    ``spam-de`` and ``spam-en``.
    """
    for other in candidates:
        if other != name and _one_typed_wrong(name, other, cutoff):
            return other
    return None


def _one_typed_wrong(name: str, other: str, cutoff: float) -> bool:
    parts = re.split("[-._]", name)
    others = re.split("[-._]", other)
    if len(parts) != len(others):
        return False
    pairs = zip(parts, others, strict=True)
    return all(_alike(part, counterpart, cutoff) for part, counterpart in pairs)


def _alike(part: str, other: str, cutoff: float) -> bool:
    if part == other:
        return True
    same_digits = re.sub(r"\D", "", part) == re.sub(r"\D", "", other)
    return len(part) >= 4 and same_digits and _ratio(part, other) >= cutoff
