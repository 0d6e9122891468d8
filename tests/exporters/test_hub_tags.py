"""What the Hub calls a task."""

from __future__ import annotations

import pytest

from exporters import hub_tags


@pytest.mark.parametrize(
    ("task", "pairs", "tag"),
    [
        ("text-classification", False, "text-classification"),
        ("text-classification", True, "text-classification"),
        ("token-classification", False, "token-classification"),
        ("sentence-embeddings", False, "sentence-similarity"),
        ("regression", False, "text-classification"),
        ("regression", True, "text-ranking"),
        ("a task of a plug-in", False, "text-classification"),
    ],
)
def test_a_task_has_the_hub_s_name(task: str, pairs: bool, tag: str) -> None:
    assert hub_tags.tag(task, pairs) == tag
