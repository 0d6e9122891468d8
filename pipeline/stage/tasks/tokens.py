"""Texts as rows of tokens, with a tokenizer of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def rows(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> list[dict[str, list[int]]]:
    """Return the model's inputs for each text, or text and pair, cut to ``max_length`` tokens."""
    if not texts:
        return []
    encoded = tokenizer(texts, pairs, truncation=True, max_length=max_length)
    return [{key: encoded[key][row] for key in encoded} for row in range(len(texts))]


def counts(tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[int]:
    """Return the number of tokens of each text, or text and pair, before it is cut."""
    if not texts:
        return []
    encoded = tokenizer(texts, pairs, truncation=False, verbose=False)
    return [len(ids) for ids in encoded["input_ids"]]
