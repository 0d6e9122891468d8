"""Which hidden states of a teacher a student can learn: layers, and rows of the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rarefy.stages.training.parameters import Row


def spread_layers(depth: int, teacher_depth: int) -> list[tuple[int, int]]:
    """Return (layer, teacher's layer) for every layer, both at the same share of their depths.

    Layer l of L learns from the teacher's layer ⌈l · N / L⌉ of N, counted from 1 (TinyBERT, Jiao et
    al. 2020, arXiv 1909.10351, §3.1). The last always learns from the last.
    """
    pairs = []
    for layer in range(depth):
        rounded_up = -(-(layer + 1) * teacher_depth // depth)
        pairs.append((layer, rounded_up - 1))
    return pairs


def same_tokens(
    tokenizer: Any, rows: Sequence[Row], other: Any, other_rows: Sequence[Row]
) -> list[bool]:
    """Return for each row whether two tokenizers split it into the same tokens; ids may differ.

    If they split texts into different numbers of rows, no row is the same.

    Args:
        tokenizer: the student's.
        rows: the texts as the student reads them.
        other: the teacher's tokenizer.
        other_rows: the same texts as the teacher reads them.
    """
    if len(rows) != len(other_rows):
        return [False] * len(rows)
    same_ids = tokenizer.get_vocab() == other.get_vocab()
    special, other_special = set(tokenizer.all_special_ids), set(other.all_special_ids)
    same = []
    for row, other_row in zip(rows, other_rows, strict=True):
        ids, other_ids = row["input_ids"], other_row["input_ids"]
        if same_ids and ids == other_ids:
            same.append(True)
            continue
        tokens = _tokens(tokenizer, ids, special)
        other_tokens = _tokens(other, other_ids, other_special)
        same.append(tokens == other_tokens)
    return same


def _tokens(tokenizer: Any, ids: list[int], special: set[int]) -> list[str | None]:
    """Return the tokens of some ids; None for special tokens, whose names may differ."""
    tokens = tokenizer.convert_ids_to_tokens(ids)
    return [None if i in special else token for i, token in zip(ids, tokens, strict=True)]
