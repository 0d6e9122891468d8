"""Bound what a tokenizer's normalizer makes of a text, before a library builds it."""

from __future__ import annotations

from math import ceil, prod
from pathlib import Path
from typing import Any

from rarefy.pipeline.terms import bounds, json_text
from rarefy.pipeline.terms.errors import ModelError


def check_tokenizer(path: Path) -> None:
    """Raise ModelError if a tokenizer.json is none, or makes a long text of each character."""
    values = json_text.foreign(path, dict[str, Any])
    if _growth(values.get("normalizer")) > bounds.GROWTH:
        raise ModelError(
            f"{path}: its normalizer makes more than {bounds.GROWTH:,} characters of one"
        )


def _growth(normalizer: Any) -> int:
    """Return how many characters a normalizer makes at most of one by what it puts in."""
    if not isinstance(normalizer, dict):
        return 1
    inner = normalizer.get("normalizers")
    if isinstance(inner, list):
        return prod(_growth(part) for part in inner)
    content = normalizer.get("content")
    if normalizer.get("type") != "Replace" or not isinstance(content, str):
        return 1
    replaced = 1
    pattern = normalizer.get("pattern")
    if isinstance(pattern, dict):
        text = pattern.get("String")
        if isinstance(text, str):
            replaced = max(1, len(text))
    growth = ceil(len(content) / replaced)
    return max(1, growth)
