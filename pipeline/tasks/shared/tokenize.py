"""Texts as rows of tokens, with a tokenizer of transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rarefy.pipeline.model import batches
from rarefy.pipeline.terms.errors import as_model_error

TOKENIZER = "the tokenizer"


def rows(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> list[dict[str, list[int]]]:
    """Return the model's inputs for each text, or text and pair, cut to ``max_length`` tokens."""
    encodings = []
    for portion in _portions(texts, pairs):
        with as_model_error(TOKENIZER):
            encoded = tokenizer(*portion, truncation=True, max_length=max_length)
        count = len(portion[0])
        encodings += [{key: encoded[key][row] for key in encoded} for row in range(count)]
    return encodings


def counts(tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[int]:
    """Return the number of tokens of each text, or text and pair, before it is cut."""
    lengths: list[int] = []
    for portion in _portions(texts, pairs):
        with as_model_error(TOKENIZER):
            encoded = tokenizer(*portion, truncation=False, verbose=False)
        lengths += [len(ids) for ids in encoded["input_ids"]]
    return lengths


def _portions(
    texts: Sequence[str], pairs: Sequence[str] | None
) -> Iterator[tuple[list[str], list[str] | None]]:
    for part in batches.portions(texts, pairs):
        second = None if pairs is None else [pairs[row] for row in part]
        yield [texts[row] for row in part], second
