"""Put rows of about one length into one batch, and texts into portions that bound the memory.

Whoever asks for batches scatters the results by the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

CHARACTERS: Final = 4_000_000
"""Of a portion's texts: an encoding keeps some 165 bytes for each token, also if it is cut off."""
ROWS: Final = 20_000
"""Texts of a portion, at most."""


def order_by_length(lengths: Sequence[Any]) -> list[int]:
    """Return the rows from the shortest to the longest; of one length, in their own order."""
    return sorted(range(len(lengths)), key=lengths.__getitem__)


def split_rows(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Yield ``rows`` in batches of at most ``size``."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def batches_by_length(lengths: Sequence[Any], size: int) -> Iterator[Sequence[int]]:
    """Yield all rows, from the shortest to the longest, in batches of at most ``size``."""
    return split_rows(order_by_length(lengths), size)


def rows_of_equal_length(lengths: Sequence[Any]) -> Iterator[tuple[Any, list[int]]]:
    """Yield each length with its rows, from the shortest; a length may be a list of several."""
    rows = order_by_length(lengths)
    for length, same in groupby(rows, key=lengths.__getitem__):
        yield length, list(same)


def portions(texts: Sequence[str], pairs: Sequence[str] | None = None) -> Iterator[range]:
    """Yield ranges of rows, in order, with as many texts as fit; one row at least."""
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
