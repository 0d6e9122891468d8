"""The corpus of a search: what is read, and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rarefy.pipeline.data import corpus
from rarefy.pipeline.tasks import load as data
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.tasks.task import groups_of_blocks
from rarefy.pipeline.terms.errors import DataError
from rarefy.pipeline.terms.recipe_parts import Data

CORPUS = [{"id": "a", "text": "warm"}, {"id": 7, "text": "cold"}, {"id": "c", "text": "cold"}]
TRAIN = [{"query": f"q{at}", "positive": "warm film"} for at in range(4)]
EVAL = [{"query": "hot", "positive": "a"}, {"query": "ice", "positive": "c"}]


def load(folder: Path, task: Any = SENTENCE_EMBEDDINGS, **changes: Any) -> Any:
    rows = {"train": TRAIN, "eval": EVAL, "corpus": CORPUS}
    for name, default in rows.items():
        given = changes.pop(name, default)
        text = "".join(json.dumps(row) + "\n" for row in given)
        (folder / f"{name}.jsonl").write_text(text)
    values = {name: f"{name}.jsonl" for name in rows}
    values |= {"text": ("query", "positive"), "label": None}
    table = Data(**(values | changes))
    return data.load(table, task.reader, data.locate(table, folder))[0]


def test_a_query_of_eval_is_not_learned_from_without_a_word(tmp_path):
    """Embedders read each text of a row alone, so one text in common is enough."""
    train = [*TRAIN, {"query": "hot", "positive": "warm film"}]
    rows = {"train": train, "eval": EVAL, "corpus": CORPUS}
    rows["unlabelled"] = [
        {"query": "hot", "positive": "anything"},
        {"query": "anything", "positive": "Ice!"},
        {"query": "fresh", "positive": "warm"},
    ]
    for name, given in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    files = {name: f"{name}.jsonl" for name in rows}
    table = Data(**files, text=("query", "positive"), label=None, dev="train.jsonl")
    splits, summary = data.load(table, SENTENCE_EMBEDDINGS.reader, data.locate(table, tmp_path))
    assert list(splits["unlabelled"].texts) == ["fresh"]
    assert "eval: 1 row is also in train, so accuracy is overestimated" in summary.warnings


def test_queries_are_rows_and_their_labels_are_places(tmp_path):
    rows = [*EVAL, {"query": "hot", "positive": "c"}, {"query": "hot", "positive": "a"}]
    splits = load(tmp_path, eval=rows)
    found = splits["eval"]
    assert (list(found.texts), found.pairs, found.labels) == (["hot", "ice"], None, [(0, 2), (2,)])
    assert list(found.corpus) == ["warm", "cold", "cold"]
    assert list(splits["corpus"].texts) == list(found.corpus)
    assert splits["train"].labels is None


def test_an_id_may_be_a_number(tmp_path):
    assert load(tmp_path, eval=[{"query": "ice", "positive": 7}])["eval"].labels == [(1,)]


def test_a_slice_of_a_query_is_that_of_its_first_row(tmp_path):
    rows = [row | {"kind": kind} for row, kind in zip([*EVAL, EVAL[0]], "xyz", strict=True)]
    assert load(tmp_path, eval=rows, slices=("kind",))["eval"].columns == {"kind": ["x", "y"]}


def test_the_group_of_a_query_is_that_of_its_first_row(tmp_path):
    groups = ["ann", "ben", "cid", "ann"]
    given = [*EVAL, EVAL[0], {"query": "sun", "positive": "a"}]
    rows = [row | {"user": user} for row, user in zip(given, groups, strict=True)]
    train = [row | {"user": "dan"} for row in TRAIN]
    split = load(tmp_path, eval=rows, train=train, group="user")["eval"]
    assert split.groups == ["ann", "ben", "ann"]
    task = SENTENCE_EMBEDDINGS.bind((), 32, ("query", "positive"))
    assert groups_of_blocks(task, split) == [0, 1, 0]


def test_a_byte_of_the_corpus_is_part_of_the_eval_split(tmp_path):
    before = load(tmp_path)["eval"].sha256
    after = load(tmp_path, corpus=[*CORPUS, {"id": "d", "text": "new"}])["eval"].sha256
    assert before != after
    table = Data(train="train.jsonl", eval="eval.jsonl", corpus="corpus.jsonl")
    assert corpus.digest(data.locate(table, tmp_path)) == after


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"eval": [{"query": "hot", "positive": "b"}]},
            r"'hot' should find the document 'b', .*corpus",
        ),
        (
            {"eval": [{"query": "hot", "positive": None}]},
            r"eval.*row 1: the query 'hot' has no text to find",
        ),
        ({"corpus": []}, r"corpus.jsonl: the corpus split is empty"),
        ({"corpus": [{"id": "a"}]}, r"no column 'text'; a corpus has the columns id and text"),
        ({"corpus": [*CORPUS, CORPUS[0]]}, r"corpus.jsonl: row 4: duplicate id 'a'"),
        ({"corpus": [*CORPUS, {"id": "d", "text": " "}]}, r"row 4, document 'd', has no text"),
        ({"corpus": [*CORPUS, {"id": None, "text": "x"}]}, r"row 4 has no id"),
        (
            {"corpus": CORPUS, "task": TEXT_CLASSIFICATION},
            r"data.corpus: not used by text-classification",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, changes, message):
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, **changes)
    assert "\n" not in str(caught.value)


def test_a_corpus_that_is_not_there_is_named(tmp_path):
    table = Data(train="t.jsonl", eval="e.jsonl", corpus="nowhere.jsonl")
    for name in ("t.jsonl", "e.jsonl"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(DataError, match=r"data.corpus.*nowhere.jsonl"):
        data.locate(table, tmp_path)


def test_negatives_are_a_text_or_a_list(tmp_path):
    wrong = ["cold", ["cold", "ice"], None, []]
    rows = [row | {"not": value} for row, value in zip(TRAIN, wrong, strict=True)]
    rows = [
        row | {"not": [row["not"]] if isinstance(row["not"], str) else row["not"]} for row in rows
    ]
    split = load(tmp_path, train=rows, negatives="not")["train"]
    assert list(split.negatives) == [("cold",), ("cold", "ice"), (), ()]
    with pytest.raises(
        DataError, match=r"row 1: column 'not' holds '4'; expected a text or a list"
    ):
        load(tmp_path, train=[row | {"not": 4} for row in TRAIN], negatives="not")
    split = load(tmp_path, train=[row | {"not": "cold"} for row in TRAIN], negatives="not")["train"]
    assert list(split.negatives) == [("cold",)] * 4
