"""Hints for an unknown name: the most similar known name, or the list of known names."""

from __future__ import annotations

import difflib
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
