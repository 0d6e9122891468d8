"""Lengths of rows, which may be pairs of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rarefy.pipeline.model.tokens import windows

if TYPE_CHECKING:
    from rarefy.pipeline.model.runtime.bundle_model import BundleModel


def of(texts: Sequence[str], pairs: Sequence[str] | None) -> list[int]:
    """Return each row's number of characters, that of both its texts if rows are pairs."""
    own = [len(text) for text in texts]
    if pairs is None:
        return own
    return [first + len(second) for first, second in zip(own, pairs, strict=True)]


def tokens(model: BundleModel, texts: Sequence[str], pairs: Sequence[str] | None) -> list[int]:
    """Return each row's number of tokens as the model reads it: cut, or whole in windows."""
    if model.of_words or model.in_windows:
        tokenizer, longest = model.tokenizer, model.signature["max_length"]
        return [windows.length(tokenizer, own, longest) for own in windows.read(tokenizer, texts)]
    return [next(iter(feed.values())).shape[1] for feed in model.encode(texts, pairs)]
