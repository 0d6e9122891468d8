"""Put rows of about one length into one batch; whoever asks scatters the results by the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any


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
