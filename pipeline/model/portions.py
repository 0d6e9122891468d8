"""Rows in portions that bound the memory of what is made of them at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

CHARACTERS: Final = 4_000_000
"""Of a portion's texts: an encoding keeps some 165 bytes for each token, also if it is cut off."""
ROWS: Final = 20_000


def of(texts: Sequence[str], pairs: Sequence[str] | None = None) -> Iterator[range]:
    """Return ranges of rows, in order, with as many texts as fit; one row at least."""
    start = 0
    characters = 0
    for row in range(len(texts)):
        own = len(texts[row]) + (0 if pairs is None else len(pairs[row]))
        if row > start and (characters + own > CHARACTERS or row - start >= ROWS):
            yield range(start, row)
            start = row
            characters = 0
        characters += own
    if start < len(texts):
        yield range(start, len(texts))
