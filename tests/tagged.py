"""Sentences whose words have tags that can be learned, for token classification."""

from __future__ import annotations

import random
from typing import Any

from tests.models import BAD, FILL, GOOD


def tagged_rows(
    count: int, seed: int = 0, longest: int = 9, **further: Any
) -> list[dict[str, Any]]:
    """Rows of tokens and tags: a run of good words is an entity, and one of bad words too."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        tokens: list[str] = []
        tags: list[str] = []
        while len(tokens) < draw.randint(4, longest):
            kind, words = draw.choice([("O", FILL), ("GOOD", GOOD), ("BAD", BAD)])
            size = draw.randint(1, 2)
            tokens += draw.choices(words, k=size)
            tags += ["O"] * size if kind == "O" else [f"B-{kind}", f"I-{kind}"][:size]
            tokens.append("the")
            tags.append("O")
        rows.append({"tokens": tokens, "tags": tags, "part": "ab"[number % 2]} | further)
    return rows


DATA = {"train": "train.jsonl", "eval": "eval.jsonl", "text": "tokens", "label": "tags"}
TASK = {"task": "token-classification", "data": DATA}
