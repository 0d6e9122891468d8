"""A file of predictions finds the rows that they are for."""

from __future__ import annotations

import json

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from rarefy.pipeline import tasks
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.terms.errors import DataError
from rarefy.stages.transfer import predictions
from tests.searches import CORPUS

LABELS = ("negative", "positive")
ROWS = [
    {"text": "dull", "label": "negative"},
    {"text": "warm", "label": "positive"},
    {"text": "warm", "label": "positive"},
    {"text": "odd", "label": None},
]


def split(texts, pairs=None, labels=None, **changes):
    return Split("train", "train.jsonl", "0" * 64, texts, pairs, labels, **changes)


@pytest.fixture
def read(tmp_path):
    def run(rows, task="text-classification", labels=LABELS, text=("text",), by=None):
        lines = [json.dumps(row) for row in rows]
        (tmp_path / "made.jsonl").write_text("\n".join(lines))
        bound = tasks.find(task).bind(labels, 32, text)
        return predictions.read("made.jsonl", tmp_path, bound, by)

    return run


def test_rows_without_a_prediction_are_left_out(read):
    joined = read(ROWS).join(split(["warm", "odd", "new", "dull", "Warm"]))
    assert joined.rows == [0, 3]
    assert joined.outputs.argmax(axis=1).tolist() == [1, 0]


def test_parquet_is_read_as_well(tmp_path):
    columns = {
        "text": ["dull", "warm"],
        "probabilities": [{"negative": 0.9, "positive": 0.1}, {"positive": 1.0}],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "made.parquet")
    task = tasks.find("text-classification").bind(LABELS, 32, ("text",))
    found = predictions.read("made.parquet", tmp_path, task, None)
    answers = found.answers(split(["warm", "dull"]))
    assert answers == pytest.approx(np.array([[0, 1], [0.9, 0.1]]), abs=1e-6)


def test_probabilities_say_more_than_a_label(read):
    rows = [{"text": "warm", "label": "negative", "probabilities": {"positive": 1}}]
    assert read(rows).join(split(["warm"])).outputs.argmax() == 1


def test_rows_may_be_found_by_their_id(read):
    rows = [{"key": 7, "label": "positive"}, {"key": 8.0, "label": "negative"}]
    found = read(rows, by="key")
    assert found.join(split(["a", "b", "c"], ids=["8", "", "7"])).rows == [0, 2]
    with pytest.raises(DataError, match=r"name the column of ids in the data as well, as data.id"):
        found.join(split(["a"]))


def test_pairs_are_found_by_both_texts_in_their_order(read):
    rows = [{"a": "x", "b": "y", "label": "positive"}]
    found = read(rows, text=("a", "b"))
    assert found.join(split(["x", "y", "x"], ["y", "x", "z"])).rows == [0]


def test_the_column_of_a_single_text_may_be_called_text(read):
    assert read(ROWS, text=("body",)).join(split(["warm"])).rows == [0]


def test_spans_find_lists_of_words_by_their_characters(read):
    rows = [{"text": "10 Main St., Rome", "spans": [[0, 2, "No"], [13, 17, "City"]]}]
    labels = ("O", "B-No", "B-City")
    found = read(rows, "token-classification", labels, text=("tokens",))
    texts = ["10 Main St., Rome", "10 Main St . , Rome"]
    joined = found.join(split(texts))
    assert joined.outputs.argmax(axis=1).tolist() == [1, 0, 0, 2, 1, 0, 0, 0, 0, 2]


def test_lists_of_words_are_texts_joined_by_blanks(read):
    rows = [{"tokens": ["in", "Rome"], "spans": [[3, 7, "City"]]}]
    found = read(rows, "token-classification", ("O", "B-City"), text=("tokens",))
    assert found.join(split(["in Rome"])).outputs.argmax(axis=1).tolist() == [0, 1]


def test_an_id_whose_text_is_another_is_refused(read):
    rows = [{"id": 1, "text": "in Rome", "spans": [[3, 7, "City"]]}]
    found = read(rows, "token-classification", ("O", "B-City"), by="id")
    assert found.join(split(["in Rome"], ids=["1"])).rows == [0]
    with pytest.raises(DataError, match="row 1: its text is not that of the row with its id"):
        found.join(split(["in Paris"], ids=["1"]))


def vectors(texts):
    return [{"text": text, "vector": [len(text), 1, 0]} for text in texts]


def test_vectors_are_those_of_texts_in_the_order_in_which_students_read_them(read):
    found = read(vectors(["warm", "film", "dull"]), "sentence-embeddings", ())
    queries = split(["warm", "dull", "warm"], ["film", "unknown", "dull"])
    joined = found.join(queries)
    assert joined.rows == [0, 2]
    assert joined.outputs[:, 0].tolist() == [4, 4, 4]  # each text once
    scored = split(["warm", "dull"], ["film", "warm"], [0.5, 1.0])
    assert len(found.join(scored).outputs) == 4


def test_vectors_of_queries_and_documents_search(read):
    rows = vectors(["warm", "dull", *CORPUS])
    rows = [row | {"vector": [1.0, number, 0]} for number, row in enumerate(rows[:-1])]
    found = read(rows, "sentence-embeddings", (), text=("query", "positive"))
    labels = [(0, 3), (2,)]
    queries = Split("eval", "e.jsonl", "0", ["warm", "dull"], None, labels, corpus=CORPUS)
    assert len(found.answers(queries)) == 2


def test_a_comparison_needs_a_prediction_for_every_row(read):
    with pytest.raises(DataError, match=r"made.jsonl: no prediction for 1 of 2 rows of train.js"):
        read(ROWS).answers(split(["warm", "new"]))
    found = read(vectors(["warm"]), "sentence-embeddings", ())
    with pytest.raises(DataError, match="no prediction for 1 of 2 rows"):
        found.answers(split(["warm"], ["new"], [1.0]))


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([], "the predictions split is empty"),
        ([{"text": "a", "label": None}], "no row has a prediction"),
        ([{"text": "a"}], "no column 'probabilities' or 'label'; the file has text"),
        ([{"label": "positive"}], "no column 'text', by which rows are found; the file has label"),
        ([{"text": " ", "label": "positive"}], "row 1: it has no text"),
        (
            [{"text": "a", "label": "great"}],
            "row 1: 'great' is not one of the labels negative, pos",
        ),
        (
            [{"text": "a", "label": "negative"}, {"text": "a", "label": "positive"}],
            "rows 1 and 2 have the same text, but different predictions",
        ),
    ],
)
def test_bad_files_are_refused_in_one_line(read, rows, problem):
    with pytest.raises(DataError, match=f"^made.jsonl: {problem}"):
        read(rows)


def test_ids_are_needed_where_rows_are_found_by_them(read):
    with pytest.raises(DataError, match="no column 'key'; the file has text, label"):
        read(ROWS, by="key")
    with pytest.raises(DataError, match="row 1: it has no id"):
        read([{"key": None, "label": "positive"}], by="key")
    twice = [{"key": 1, "label": label} for label in LABELS]
    with pytest.raises(DataError, match="rows 1 and 2 have the same id"):
        read(twice, by="key")


@pytest.mark.parametrize(
    ("spans", "problem"),
    [
        ([[0, 9, "City"]], r"row 1: span 0–9 \(City\) is not within the text"),
        ([[0, 4, "City"], [2, 4, "City"]], "row 1: spans .* overlap"),
    ],
)
def test_spans_outside_their_text_are_refused(read, spans, problem):
    with pytest.raises(DataError, match=problem):
        read([{"text": "Rome", "spans": spans}], "token-classification", ("O", "B-City"))


def test_vectors_of_other_lengths_are_refused(read):
    rows = vectors(["warm", "dull"])
    rows[1]["vector"].append(0)
    with pytest.raises(DataError, match="row 2: vector has 4 numbers, but the first has 3"):
        read(rows, "sentence-embeddings", ())


def test_a_missing_file_is_named(tmp_path):
    task = tasks.find("regression").bind((), 32, ("text",))
    with pytest.raises(DataError, match=r"label.file: gone.jsonl: no such file"):
        predictions.read("gone.jsonl", tmp_path, task, None)
