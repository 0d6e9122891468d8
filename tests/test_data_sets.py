"""The labelled sets in examples/data are whole, say where they come from, and leak nothing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[1] / "examples" / "data"
ROWS = {
    "addresses": (1087, 400),
    "brown-tags": (3000, 900),
    "movie-ratings": (8497, 2106),
    "movie-reviews": (8070, 2000),
    "wordnet-concepts": (6000, 1500),
    "wordnet-rerank": (20000, 10000),
    "wordnet-search": (4000, 1500),
}
COLUMNS = {
    "addresses": {"tokens", "tags"},
    "brown-tags": {"tokens", "tags", "genre"},
    "movie-ratings": {"text", "rating"},
    "movie-reviews": {"text", "label"},
    "wordnet-concepts": {"text", "labels"},
    "wordnet-rerank": {"query", "passage", "relevance"},
    "wordnet-search": {"query", "positive"},
}
TAGGED = ["addresses", "brown-tags"]


def rows(name: str, split: str) -> list[Any]:
    lines = (DATA / name / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def text(row: dict[str, Any]) -> str:
    """Return what a row asks about: its text, its tokens or its query, without capitals."""
    return (row.get("text") or row.get("query") or " ".join(row["tokens"])).lower()


def test_every_folder_names_its_source_and_licence() -> None:
    folders = sorted(path for path in DATA.iterdir() if path.is_dir())
    others = {"wordnet-facts", "language-model", "address-spans"}
    assert {path.name for path in folders} == {*ROWS, *others}
    for folder in folders:
        page = (folder / "README.md").read_text()
        assert "**Source**" in page, folder.name
        assert "**Licence**" in page, folder.name
        assert len((folder / "LICENSE").read_text()) > 500, folder.name


@pytest.mark.parametrize("name", ROWS)
def test_splits_have_the_rows_and_columns_that_their_page_says(name: str) -> None:
    train, held_out = rows(name, "train"), rows(name, "eval")
    page = (DATA / name / "README.md").read_text()
    assert (len(train), len(held_out)) == ROWS[name]
    for count in ROWS[name]:
        assert f"{count:,}" in page
    assert all(row.keys() == COLUMNS[name] for row in train + held_out)


@pytest.mark.parametrize("name", ROWS)
def test_no_text_is_in_both_splits(name: str) -> None:
    train, held_out = ([text(row) for row in rows(name, split)] for split in ("train", "eval"))
    assert not set(train) & set(held_out)
    if name != "wordnet-rerank":  # where a query has many rows
        assert max(Counter(train + held_out).values()) == 1


@pytest.mark.parametrize("name", TAGGED)
def test_tags_are_bio_one_for_each_token(name: str) -> None:
    train, held_out = rows(name, "train"), rows(name, "eval")
    for row in train + held_out:
        assert len(row["tokens"]) == len(row["tags"]) > 0
        assert all(token and token.split() == [token] for token in row["tokens"])
        for before, tag in zip(["O", *row["tags"]], row["tags"], strict=False):
            assert tag == "O" or tag[:2] == "B-" or (tag[:2] == "I-" and before[2:] == tag[2:])
    known = {tag for row in train for tag in row["tags"]}
    assert {tag for row in held_out for tag in row["tags"]} <= known


def test_addresses_have_all_tags_of_usaddress() -> None:
    tags = {tag[2:] for row in rows("addresses", "train") for tag in row["tags"]}
    assert len(tags) == 29


def test_brown_sentences_are_spread_evenly_over_the_genres() -> None:
    for split, each in (("train", 200), ("eval", 60)):
        counts = Counter(row["genre"] for row in rows("brown-tags", split))
        assert len(counts) == 15
        assert set(counts.values()) == {each}


def test_ratings_split_the_sentences_as_the_reviews_do() -> None:
    """A model trained on one of the two may be evaluated on the other."""
    for split, other in (("train", "eval"), ("eval", "train")):
        ratings = {row["text"]: row["rating"] for row in rows("movie-ratings", split)}
        assert all(-4 <= rating <= 4 for rating in ratings.values())
        assert 0.04 < sum(abs(rating) < 0.5 for rating in ratings.values()) / len(ratings) < 0.06
        reviews = rows("movie-reviews", split)
        assert {row["text"] for row in reviews} <= ratings.keys()
        assert not {row["text"] for row in rows("movie-reviews", other)} & ratings.keys()
        signs = {"positive": 1, "negative": -1}
        assert all(signs[row["label"]] * ratings[row["text"]] >= 0.5 for row in reviews)


def test_concepts_have_several_labels_each_learnable() -> None:
    train, held_out = rows("wordnet-concepts", "train"), rows("wordnet-concepts", "eval")
    for row in train + held_out:
        assert len(set(row["labels"])) == len(row["labels"]) > 0
    counts = Counter(label for row in train for label in row["labels"])
    assert len(counts) == 24
    assert min(counts.values()) > 100
    assert 2 <= sum(counts.values()) / len(train) <= 4
    people = [row["labels"] for row in held_out if "person" in row["labels"]]
    assert all("living thing" in labels for labels in people)


def test_search_finds_each_answer_once_in_the_corpus() -> None:
    corpus = {row["id"]: row["text"] for row in rows("wordnet-search", "corpus")}
    assert len(corpus) == len(set(corpus.values())) == 10_200
    asked = [row["positive"] for row in rows("wordnet-search", "eval")]
    assert len(set(asked)) == len(asked)
    learnt = {row["positive"] for row in rows("wordnet-search", "train")}
    assert learnt <= set(corpus.values())
    assert not learnt & {corpus[identity] for identity in asked}


def test_reranked_queries_have_one_relevant_passage_each() -> None:
    corpus = {row["id"]: row["text"] for row in rows("wordnet-search", "corpus")}
    for split, passages in (("train", 5), ("eval", 20)):
        answers = {
            row["query"]: corpus.get(row["positive"], row["positive"])
            for row in rows("wordnet-search", split)
        }
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in rows("wordnet-rerank", split):
            groups.setdefault(row["query"], []).append(row)
        for query, group in groups.items():
            assert len({row["passage"] for row in group}) == len(group) == passages
            relevant = [row["passage"] for row in group if row["relevance"] == 1]
            assert relevant == [answers[query]]
            assert sum(row["relevance"] for row in group) == 1


def test_facts_say_nothing_of_what_the_search_asks_for() -> None:
    lines = (DATA / "wordnet-facts" / "facts.tsv").read_text(encoding="utf-8").splitlines()
    facts = [line.split("\t") for line in lines[1:]]
    assert Counter(relation for _, relation, _ in facts) == {
        "means": 1000,
        "synonym": 1000,
        "is_a": 1000,
    }
    corpus = {row["id"]: row["text"] for row in rows("wordnet-search", "corpus")}
    asked = {corpus[row["positive"]] for row in rows("wordnet-search", "eval")}
    assert not asked & {text for _, relation, text in facts if relation == "means"}
