"""Hints for a name that is not known: the nearest one that is, or all there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(value: Any, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name that is most like ``value``, or None if none is similar."""
    return next(iter(difflib.get_close_matches(str(value), known, n=1, cutoff=cutoff)), None)


def hint(value: Any, known: Iterable[str]) -> str:
    """Return the end of an error about an unknown name: a suggestion, or the known names."""
    names = list(known)
    near = nearest(value, names)
    return f", did you mean {near!r}?" if near else f"; known: {', '.join(names) or 'none'}"
