"""Rows that reach past the lengths at which a model may begin to behave differently.

Real rows are often shorter than the window of a layer with local attention or than the nearest
positions that DeBERTa's buckets keep apart. A graph that is wrong beyond such a boundary gives
the right answers up to it. The parity check therefore also runs on longer rows, which are joined
from real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, list[int]]

ENOUGH = (
    2048  # tokens; attention needs memory of heads × length², so rows end here or past a window
)
WIDTHS = ("local_attention", "sliding_window", "attention_window", "attention_chunk_size")
BUCKETS = ("position_buckets", "relative_attention_num_buckets", "max_relative_positions")


def reach(config: Any, max_length: int) -> int:
    """Return the length of the longest row to check: past every boundary, up to ``max_length``."""
    return min(max_length, max(ENOUGH, *(2 * length for length in _boundaries(config)), 1))


def long_rows(config: Any, rows: Sequence[Row], max_length: int) -> list[Row]:
    """Return at most three rows: of the full length, and past the nearest and farthest boundary.

    Args:
        config: the model's configuration.
        rows: tokenized rows; the long ones consist of their tokens.
        max_length: the longest row that the bundle reads.
    """
    longest = reach(config, max_length)
    within = [length + 1 for length in _boundaries(config) if length + 1 < longest]
    return [joined(rows, length) for length in sorted({*within[:1], *within[-1:], longest})]


def joined(rows: Sequence[Row], length: int) -> Row:
    """Return a row of ``length`` tokens: the start and end of the first, the middle of them all."""
    names = list(rows[0])
    tokens = [list(zip(*(row[name] for name in names), strict=True)) for row in rows]
    middle = [token for row in tokens for token in row[1:-1]] or [
        token for row in tokens for token in row
    ]
    first = tokens[0]
    wanted = max(0, length - len(first))
    filling = (middle * (wanted // len(middle) + 1))[:wanted]
    made = (first[:-1] + filling + first[-1:])[:length]
    return {name: list(column) for name, column in zip(names, zip(*made, strict=True), strict=True)}


def _boundaries(config: Any) -> list[int]:
    """Return the lengths, shortest first, that a window or a table of distances sets."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    found: set[int] = set()
    for name in (*WIDTHS, *BUCKETS):
        value = getattr(text, name, None)
        for size in value if isinstance(value, list | tuple) else [value]:
            if isinstance(size, int) and size > 0:
                # A width may count both sides of a token, and so does a table of distances.
                found |= {(size + 1) // 2, size}
    return sorted(found)
