"""Single values of a data file, and of targets: missing ones, and values as text."""

from __future__ import annotations

import math
from typing import Any

from rarefy.pipeline.terms.errors import DataError

IGNORED = -100
"""The target of a unit that has none, which losses leave out."""


def is_missing(value: Any) -> bool:
    """Return whether a cell is empty: null, NaN, or blank text."""
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, str):
        return not value.strip()
    return value is None


def as_text(value: Any) -> str:
    """Return a value as text. Missing values turn integers into floats, so 1.0 is the text 1."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def as_number(value: Any) -> float | None:
    """Return a value, or text that reads as a number, as a finite number; None if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def is_unicode(text: str) -> bool:
    """Return False if a text has half of a surrogate pair, which is no character to a tokenizer.

    JSON can hold one, and bytes that are not UTF-8 are read as such.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def given_text(value: Any) -> str:
    """Return a text that a user gives to be answered. Raises DataError if it is none."""
    if not isinstance(value, str):
        raise DataError(f"{value!r:.60} is not text, but of type {type(value).__name__}")
    if not is_unicode(value):
        raise DataError(f"{value!r:.60} is not valid Unicode")
    return value
