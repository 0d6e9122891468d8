"""Quantities as people write them in a recipe: ``3%``, ``3 points``, ``20 MB``, ``5x``."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_SCALES = {
    "": 1.0,
    "%": 0.01,
    "x": 1.0,
    "×": 1.0,
    "ms": 1.0,
    "us": 1e-3,
    "µs": 1e-3,
    "s": 1e3,
    "b": 1.0,
    "kb": 1e3,
    "mb": 1e6,
    "gb": 1e9,
    "kib": 2.0**10,
    "mib": 2.0**20,
    "gib": 2.0**30,
}
_KINDS = {"%": "a percentage", "x": "a factor", "×": "a factor", "": ""}
_SUFFIXES = {"b": "a size", "s": "a time"}
_NUMBER = r"\s*([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)\s*"
_PATTERN = re.compile(_NUMBER + r"([a-zµ%×]*)\s*")
_POINTS = re.compile(_NUMBER + r"points?\s*")


def parse(value: Any) -> Any:
    """Return ``value`` as a number: percentages as fractions, times in ms, sizes in bytes.

    Values that are not strings pass through unchanged. Raises ValueError if a string is not a
    quantity or the value is a bool.
    """
    if isinstance(value, bool):
        raise ValueError("expected a number, not true or false")
    if not isinstance(value, str):
        return value
    match = _PATTERN.fullmatch(_plain(value))
    if not match or match[2] not in _SCALES:
        raise ValueError(
            f"{value!r} is not a quantity; write it like 0.03, '3%', '20 MB', '5 ms' or '5x'"
        )
    return float(match[1]) * _SCALES[match[2]]


def count_points(text: str) -> float:
    """Return the number of percentage points in a text: 3 for ``3 points``.

    Raises ValueError if the text is a share or anything else.
    """
    match = _POINTS.fullmatch(text.lower())
    if match:
        return float(match[1])
    share = _PATTERN.fullmatch(text)
    if share and share[2] == "%":
        unit = "point" if float(share[1]) == 1 else "points"
        raise ValueError(f"a difference is in percentage points; write {share[1]} {unit}")
    raise ValueError(f"{text!r} is not a number of percentage points; write it like '3 points'")


def parse_points(value: Any) -> Any:
    """Return a difference as a fraction: 0.03 for ``3 points``; a number is one already.

    Raises ValueError as ``count_points`` does, or if the value is a bool.
    """
    if isinstance(value, str):
        return count_points(value) / 100
    return parse(value)


def kind(value: Any) -> str:
    """Return the kind that a quantity's unit implies, e.g. "a time"; "" if it has no unit."""
    if not isinstance(value, str):
        return ""
    match = _PATTERN.fullmatch(_plain(value))
    if not match or match[2] not in _SCALES:
        return ""
    unit = match[2]
    return _KINDS.get(unit) or _SUFFIXES.get(unit[-1:], "")


def _plain(text: str) -> str:
    # Keyboards produce two different micro signs that look the same.
    return text.lower().replace("μ", "µ")


Quantity = Annotated[float, BeforeValidator(parse), WithJsonSchema({"type": ["number", "string"]})]
Points = Annotated[
    float, BeforeValidator(parse_points), WithJsonSchema({"type": ["number", "string"]})
]
"""A difference of two shares, as a fraction."""
