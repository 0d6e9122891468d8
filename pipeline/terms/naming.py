"""Hints for an unknown name: the most similar known name, or the list of known names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any


def nearest(value: Any, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name most similar to ``value``, the first one in a tie.

    Returns None if no name is similar.
    """
    likeness = {name: difflib.SequenceMatcher(None, name, str(value)).ratio() for name in known}
    best = max(likeness, key=lambda name: likeness[name], default=None)
    return best if best is not None and likeness[best] >= cutoff else None


def hint(value: Any, known: Iterable[str]) -> str:
    """Return the end of an error message about an unknown name: a suggestion or all known names."""
    names = list(known)
    near = nearest(value, names)
    return f", did you mean {near!r}?" if near else f"; known: {', '.join(names) or 'none'}"


def repeated(names: Iterable[str]) -> str | None:
    """Return the first name that occurs a second time, None if there is none."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def misspelt(name: str, known: Iterable[str], cutoff: float = 0.8) -> str | None:
    """Return the known name that ``name`` is probably a typing error of, or None.

    Names that differ in a number or in a short part are different names: ``prod-a`` and ``prod-b``,
    ``spam-de`` and ``spam-en``.
    """
    others = (other for other in known if other != name)
    return next((other for other in others if _one_typed_wrong(name, other, cutoff)), None)


def _one_typed_wrong(name: str, other: str, cutoff: float) -> bool:
    parts, others = (re.split("[-._]", each) for each in (name, other))
    alike = (_alike(*pair, cutoff) for pair in zip(parts, others, strict=False))
    return len(parts) == len(others) and all(alike)


def _alike(part: str, other: str, cutoff: float) -> bool:
    if part == other:
        return True
    digits = [re.sub(r"\D", "", each) for each in (part, other)]
    likeness = difflib.SequenceMatcher(None, part, other).ratio()
    return len(part) >= 4 and digits[0] == digits[1] and likeness >= cutoff
