"""Lengths of rows, which may be pairs of texts."""

from __future__ import annotations

from collections.abc import Sequence


def of(texts: Sequence[str], pairs: Sequence[str] | None) -> list[int]:
    """Return each row's number of characters, that of both its texts if rows are pairs."""
    own = [len(text) for text in texts]
    if pairs is None:
        return own
    return [first + len(second) for first, second in zip(own, pairs, strict=True)]
