"""Rows that belong together are named, and rows that do not are left in peace."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from rarefy.pipeline.data import repeats
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.data.table import Source
from rarefy.pipeline.terms.digests import file_sha256

DATA = Path(__file__).parents[3] / "examples" / "data"
WORDS = [f"word{number}" for number in range(500)]


def templates(count: int, copies: int) -> list[str]:
    """Texts of 20 random words, each in copies of which one word differs."""
    rng = random.Random(0)
    texts = []
    for _ in range(count):
        words = rng.choices(WORDS, k=20)
        for copy in range(copies):
            texts.append(" ".join([*words[:15], f"copy{copy}", *words[15:]]))
    return texts


def split(texts: list[str]) -> Split:
    return Split("eval", "eval.jsonl", "0" * 64, texts, None, [0] * len(texts))


def test_copies_with_another_word_are_one_cluster() -> None:
    found = repeats.near_duplicates(templates(30, 10))
    together = [len(set(found[start : start + 10])) for start in range(0, 300, 10)]
    assert sum(together) / 30 < 1.5, "each template is one cluster, with few exceptions"
    assert len(set(found)) >= 30, "and no two templates share one"
    (warning,) = repeats.cluster_warnings(split(templates(30, 10)))
    assert "near duplicates, in " in warning
    assert "data.group" in warning


def test_texts_apart_and_equal_ones_are_no_near_duplicates() -> None:
    assert repeats.cluster_warnings(split(templates(300, 1))) == []
    assert repeats.cluster_warnings(split(templates(300, 1) * 3)) == [], (
        "equal rows are a group already"
    )
    assert repeats.cluster_warnings(split(["yes", "no", "yes please"])) == []


@pytest.mark.parametrize("name", ["movie-reviews", "wordnet-concepts", "movie-ratings"])
def test_the_examples_raise_no_alarm(name: str) -> None:
    file = DATA / name / "eval.jsonl"
    texts = [json.loads(line)["text"] for line in file.read_text().splitlines()]
    assert repeats.cluster_warnings(split(texts)) == []


@pytest.mark.parametrize(
    ("name", "values", "rows", "named"),
    [
        ("user_id", 50, 200, True),
        ("sourceDocument", 50, 200, True),
        ("length", 50, 200, False),
        ("source", 4, 200, False),
        ("doc_id", 200, 200, False),
    ],
    ids=["users", "documents", "not a source by name", "kinds of sources", "all different"],
)
def test_columns_of_sources_are_named(
    tmp_path: Path, name: str, values: int, rows: int, named: bool
) -> None:
    path = tmp_path / "eval.jsonl"
    lines = [json.dumps({"text": f"row {row}", name: row % values}) for row in range(rows)]
    path.write_text("\n".join(lines))
    source = Source("eval", str(path), path, file_sha256(path))
    found = repeats.grouping_columns(source, {"text"})
    assert bool(found) is named
    assert all(f"set data.group: {name}" in sentence for sentence in found)
    assert repeats.grouping_columns(source, {"text", name}) == []


def test_of_long_texts_the_first_words_are_compared() -> None:
    rng = random.Random(0)
    start = rng.choices(WORDS, k=repeats.WORDS)
    texts = [" ".join([*start, *rng.choices(WORDS, k=2000)]) for _ in range(2)]
    assert len(set(repeats.near_duplicates(texts))) == 1
