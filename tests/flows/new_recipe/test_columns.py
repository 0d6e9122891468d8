"""Guess which columns of a file hold the text and the label."""

from __future__ import annotations

import datetime
import gzip
import json
import os
import random
from pathlib import Path

import pytest

from rarefy.flows.new_recipe import columns
from rarefy.flows.new_recipe.columns import Columns
from rarefy.pipeline.terms.errors import DataError
from tests.models import sentences


def jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_usual_names_are_taken_first(tmp_path: Path) -> None:
    rows = [
        {"comment": "a long remark on the film", "text": "fine", "source": "web", "label": n % 3}
        for n in range(9)
    ]
    found = columns.read(jsonl(tmp_path / "rows.jsonl", rows))
    assert found.names == ["comment", "text", "source", "label"]
    assert found.text() == "text"
    assert found.label("text") == "label"


def test_else_the_longest_strings_are_text_and_the_fewest_values_labels(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    lines = [f"{n},a remark of some length number {n},{'ab'[n % 2]},one" for n in range(8)]
    path.write_text("\n".join(["id,remark,mood,constant", *lines]))
    found = columns.read(path)
    assert found.text() == "remark"
    assert found.label("remark") == "mood", "a column of one value tells no classes apart"


def test_a_column_with_another_value_in_each_row_is_a_label_only_by_its_name() -> None:
    texts, ids = ["one", "two", "three"], [1, 2, 3]
    assert Columns({"text": texts, "id": ids, "page": [7, None, None]}).label("text") is None
    assert Columns({"text": texts, "id": ids, "page": [7, 8, 7]}).label("text") == "page"
    assert Columns({"text": texts, "class": ids, "page": [7, 8, 7]}).label("text") == "class"


def test_names_are_known_in_capitals_too() -> None:
    table = Columns({"Note": ["a", "b"], "TEXT": ["c", "d"], "Label": [1, 2]})
    assert (table.text(), table.label("TEXT")) == ("TEXT", "Label")
    both = Columns({"Text": ["a"], "text": ["b"], "Label": [1]})
    assert both.called(["label", "text", "class"]) == ["Label", "text"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("none.csv", "no such file"), ("bad.jsonl", "cannot"), ("pipe.jsonl", "not a file")],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "bad.jsonl").write_text("no json\n")
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match=words) as caught:
        columns.read(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("excel.csv", b"\xef\xbb\xbftext,label\r\nfine,1\r\n"),
        ("marked.jsonl", b'\xef\xbb\xbf{"text": "fine", "label": "1"}\n'),
        ("blank.jsonl", b'\n{"text": "fine", "label": "1"}\n  \n\n'),
        ("quoted.tsv", b'text\tlabel\n"fine"\t1\n'),
        ("list.json", b'[{"text": "fine", "label": "1"}]'),
        ("packed.csv.gz", gzip.compress(b"text,label\nfine,1\n")),
        ("packed.jsonl.gz", gzip.compress(b'{"text": "fine", "label": "1"}\n')),
    ],
    ids=["excel", "marked", "blank lines", "quoted", "list", "packed csv", "packed jsonl"],
)
def test_what_a_run_reads_is_read(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert columns.read(tmp_path / name).values == {"text": ["fine"], "label": ["1"]}


def test_a_quotation_mark_that_nothing_closes_is_a_character_of_a_tsv_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text('text\tlabel\n"Great film\tpos\ndull\tneg\n')
    assert columns.read(path).values == {"text": ['"Great film', "dull"], "label": ["pos", "neg"]}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"review;stars\ngut;5\n", r"rows\.csv: the header is one column, 'review;stars'; fields"),
        (b"review,stars\nl\xe4uft,5\n", r"rows\.csv: is not UTF-8 \(byte 0xe4\); convert it, e\.g"),
    ],
    ids=["semicolons", "latin-1"],
)
def test_a_table_that_a_run_does_not_read_is_refused(
    tmp_path: Path, data: bytes, says: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(data)
    with pytest.raises(DataError, match=says) as caught:
        columns.read(path)
    assert str(caught.value).count("rows.csv") == 1


@pytest.mark.parametrize(
    "first", ["EU NNP B-NP B-ORG", "EU NNP B-NP B-geo", "-DOCSTART- -X- -X- O"]
)
def test_words_in_lines_of_their_own_are_refused(tmp_path: Path, first: str) -> None:
    lines = [first, "rejects VBZ B-VP O", "", "Peter NNP B-NP B-PER"]
    path = tmp_path / "train.tsv"
    for blank in ("\t", " "):
        path.write_text("\n".join(lines).replace(" ", blank) + "\n")
        with pytest.raises(DataError, match=r"train\.tsv: looks like CoNLL, with a word in each"):
            columns.read(path)


@pytest.mark.parametrize("name", ["E-mail", "I-94", "S-BAHN", "O", "B-LOC"])
def test_a_column_may_be_called_like_a_tag(tmp_path: Path, name: str) -> None:
    for head, row in ((f"{name},label", "fine,1"), (f"text,{name}", "fine,1"), (name, "O")):
        (tmp_path / "train.csv").write_text(f"{head}\n{row}\n")
        assert name in columns.read(tmp_path / "train.csv").names
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": "a", name: "B-LOC"}))
    assert name in columns.read(tmp_path / "train.jsonl").names


def test_an_empty_parquet_file_has_columns(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([("text", pyarrow.string()), ("label", pyarrow.int64())])
    parquet.write_table(schema.empty_table(), tmp_path / "rows.parquet")
    assert columns.read(tmp_path / "rows.parquet").values == {"text": [], "label": []}


def test_a_text_of_any_length_is_read(tmp_path: Path) -> None:
    path, long = tmp_path / "rows.csv", "x" * 200_000
    path.write_text(f"text,label\n{long},1\n")
    assert columns.read(path).values == {"text": [long], "label": ["1"]}


def test_a_file_that_is_not_of_a_known_format_says_which_are(tmp_path: Path) -> None:
    (tmp_path / "rows.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"unknown file format; use one of the extensions \.jsonl"):
        columns.read(tmp_path / "rows.xlsx")


def tickets() -> Columns:
    """Tickets whose kind the words tell; their id, day, priority and subject tell nothing."""
    texts, labels = sentences(200)
    draw = random.Random(3)
    return Columns(
        {
            "ticket_id": [at // 2 for at in range(200)],
            "opened": [f"2024-05-{at % 9 + 1:02}" for at in range(200)],
            "subject": [f"The ticket with the number {at}" for at in range(200)],
            "body": texts,
            "priority": [draw.choice("LMH") for _ in texts],
            "kind": [("none", "billing", "login")[label] for label in labels],
        }
    )


def test_the_column_that_words_predict_is_the_label() -> None:
    table = tickets()
    assert table.labels("body") == ["priority", "kind"], "no id, no date, no text"
    assert table.texts() == ["subject", "body"]
    assert table.label("body") == "kind", "though it has as many values as the priority"
    assert [table.is_guess("body", name) for name in ("kind", "priority")] == [False, True]


def test_if_words_predict_none_of_several_columns_no_label_is_taken() -> None:
    values = dict(tickets().values)
    values["kind"] = values["priority"][::-1]
    assert Columns(values).label("body") is None
    del values["kind"]
    assert Columns(values).label("body") == "priority", "the only one, and a guess"


@pytest.mark.parametrize("name", ["class", "queue", "target", "category"])
def test_a_name_is_believed_whatever_words_predict(name: str) -> None:
    values = dict(tickets().values)
    values[name] = values.pop("priority")
    table = Columns(values)
    assert table.label("body") == name
    assert not table.is_guess("body", name)


def test_dates_are_no_labels_whatever_they_are_called() -> None:
    days: list[object] = [datetime.date(2024, 5, at % 3 + 1) for at in range(9)]
    for values in (days, [str(day) for day in days], ["1.5.2024", "2.5.2024", "1.5.2024"] * 3):
        assert Columns({"text": ["a"] * 9, "stage": values}).labels("text") == []
