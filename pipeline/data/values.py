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


def given_text(value: Any) -> str:
    """Return a text that a user gives to be answered. Raises DataError if it is none.

    Half of a surrogate pair, as of bytes that are not UTF-8, is no character to a tokenizer.
    """
    if not isinstance(value, str):
        raise DataError(f"{value!r:.60} is not text, but of type {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{value!r:.60} is not valid Unicode") from None
    return value
