"""What the Hub calls a task: the ``pipeline_tag`` of a model card."""

from __future__ import annotations

from collections.abc import Mapping

TAGS: Mapping[str, str] = {
    "token-classification": "token-classification",
    "sentence-embeddings": "sentence-similarity",
}
"""A task -> the Hub's ``pipeline_tag``, if it is not ``text-classification``."""


def tag(task: str, pairs: bool) -> str:
    """Return a task's ``pipeline_tag``; a regression on ``pairs`` of texts ranks them."""
    if task == "regression" and pairs:
        return "text-ranking"
    return TAGS.get(task, "text-classification")
