"""A tiny search: queries of a few words, and documents that contain them and others."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from rarefy.pipeline.data.split import Split
from tests.models import BAD, FILL, GOOD

SEARCH: dict[str, Any] = {
    "train": "train.jsonl",
    "eval": "eval.jsonl",
    "corpus": "corpus.jsonl",
    "text": ["query", "positive"],
    "label": None,
    "max_length": 16,
}
PAIRS: dict[str, Any] = {
    "train": "train.jsonl",
    "eval": "eval.jsonl",
    "text": ["first", "second"],
    "label": "score",
    "max_length": 16,
}
TEXTS: dict[str, Any] = {
    "train": "train.jsonl",
    "eval": "eval.jsonl",
    "label": None,
    "max_length": 16,
}
WORDS = (*GOOD, *BAD)
CORPUS = ["warm film", "cold story", "a dull actor", "warm film"]


def search() -> Split:
    """Two queries, and the four documents that they search."""
    labels = [(0, 3), (2,)]
    return Split("eval", "e.jsonl", "0", ["warm", "dull"], None, labels, corpus=CORPUS)


def lessons() -> Split:
    """Two queries, each with what it should find, as in train and dev."""
    return Split("dev", "t.jsonl", "0", ["warm", "dull"], ["warm film", "a dull actor"], None)


def documents(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [
        " ".join([*draw.sample(WORDS, 3), *draw.choices(FILL, k=draw.randint(1, 5))])
        for _ in range(count)
    ]


def query(document: str) -> str:
    return " ".join(document.split()[:2])


def write_search(write: Callable[[str, list[dict[str, Any]]], Any], rows: int = 24) -> None:
    """Write train.jsonl, eval.jsonl and corpus.jsonl by ``write(name, rows)``."""
    train, corpus = documents(rows, 0), documents(30, 1)
    write("train.jsonl", [{"query": query(text), "positive": text} for text in train])
    write("corpus.jsonl", [{"id": f"d{at}", "text": text} for at, text in enumerate(corpus)])
    write(
        "eval.jsonl",
        [{"query": query(text), "positive": f"d{at}"} for at, text in enumerate(corpus[:12])],
    )


def write_pairs(write: Callable[[str, list[dict[str, Any]]], Any], rows: int = 24) -> None:
    """Write train.jsonl and eval.jsonl: pairs scored by the share of their words in common."""
    for name, seed in (("train.jsonl", 0), ("eval.jsonl", 5)):
        sides = documents(rows, seed), documents(rows, seed + 1)
        pairs = []
        for at, (first, second) in enumerate(zip(*sides, strict=True)):
            other = first if at % 3 == 0 else second
            common = len(set(first.split()) & set(other.split()))
            pairs.append({"first": first, "second": other, "score": common / 2 + at % 2})
        write(name, pairs)


def write_texts(write: Callable[[str, list[dict[str, Any]]], Any], rows: int = 60) -> None:
    """Write train.jsonl and eval.jsonl: texts alone."""
    for name, seed in (("train.jsonl", 0), ("eval.jsonl", 5)):
        write(name, [{"text": text} for text in documents(rows, seed)])
