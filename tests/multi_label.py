"""Rows with several labels, which the words of their text determine."""

from __future__ import annotations

import random
from typing import Any

from tests.models import BAD, FILL, GOOD

TASK = "multi-label-classification"
WORDS = {"bad": BAD, "good": GOOD, "people": ("actor",)}
LABELS = tuple(WORDS)


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return texts with a list of the labels whose words occur; each eighth row has none."""
    draw = random.Random(seed)
    plain = [word for word in FILL if word != "actor"]
    found = []
    for row in range(count):
        labels = [name for at, name in enumerate(LABELS) if (row % 8) >> at & 1]
        words = draw.choices(plain, k=draw.randint(3, 9))
        words += [draw.choice(WORDS[name]) for name in labels]
        draw.shuffle(words)
        found.append({"text": " ".join(words), "labels": labels})
    return found
