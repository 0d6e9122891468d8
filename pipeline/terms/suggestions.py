"""Hints for an unknown name: the most similar known name, or the list of known names."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

SYNONYMS: Final = {"lr": "learning_rate", "gpu": "cuda", "bs": "batch_size"}
"""What others call it: what it is called here."""
MOST_FILES: Final = 2000
"""Those of a folder among which a mistyped name is looked for: to compare more takes too long."""


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
