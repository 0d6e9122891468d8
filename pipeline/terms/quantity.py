"""Quantities as people write them in a recipe: ``3 %``, ``20 MB``, ``5 ms``, ``5x``."""

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
_KINDS = {"%": "a share", "x": "a factor", "×": "a factor", "": ""}
_SUFFIXES = {"b": "a size", "s": "a time"}
_PATTERN = re.compile(r"\s*([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)\s*([a-zµ%×]*)\s*")


def parse(value: Any) -> Any:
    """Return the number that ``value`` says: shares as fractions, times in ms, sizes in bytes.

    Raises ValueError where a string is not a quantity; other types pass through unchanged.
    """
    if isinstance(value, bool):
        raise ValueError("a quantity is a number, not true or false")
    if not isinstance(value, str):
        return value
    match = _PATTERN.fullmatch(_plain(value))
    if not match or match[2] not in _SCALES:
        raise ValueError(f"{value!r} is no quantity such as 0.03, '3 %', '20 MB', '5 ms', '5x'")
    return float(match[1]) * _SCALES[match[2]]


def kind(value: Any) -> str:
    """Return what a quantity's unit makes of it: "a share", "a time", …; "" for a bare number."""
    match = _PATTERN.fullmatch(_plain(value)) if isinstance(value, str) else None
    if not match or match[2] not in _SCALES:
        return ""
    return _KINDS.get(match[2]) or _SUFFIXES.get(match[2][-1:], "")


def _plain(text: str) -> str:
    # Keyboards have two signs for micro, and they look the same.
    return text.lower().replace("μ", "µ")


Quantity = Annotated[float, BeforeValidator(parse), WithJsonSchema({"type": ["number", "string"]})]
