"""Values and types of JSON files are those of all that is written there."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from datasets import Json, List, Value

from pipeline.stage import data, json_rows, table_file
from pipeline.stage.table_file import Source
from pipeline.stage.tasks.text_classification import TEXT_CLASSIFICATION
from pipeline.terms.digests import file_sha256
from pipeline.terms.errors import DataError
from pipeline.terms.vocabulary import Data


def written(path: Path, rows: list[dict[str, object]], form: str = "lines") -> Source:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(json.dumps(rows, indent=1) if form == "list" else "\ufeff" + text)
    return Source("train", path.name, path, file_sha256(path))


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (["2020-01-01", "2021-12-31", None], "lines"),
        (["2020-01-01", "2021-12-31", None], "list"),
        (["2020-01-01T10:00:00Z", "2020-01-01 00:00:00", "2020-01-02"], "lines"),
        ([["2020-01-01"], [], ["2020-01-02", "2020-01-03"]], "lines"),
        ([2**64 + 1, 2**64 + 2, None], "lines"),
        ([2**63 + 1, 5, -(2**70) - 1], "lines"),
    ],
)
def test_dates_and_large_integers_are_as_in_the_file(tmp_path, monkeypatch, values, form):
    monkeypatch.setattr(table_file, "BATCH", 2)
    rows = [{"text": f"t {at}", "of": value} for at, value in enumerate([*values, *values])]
    with table_file.opened(written(tmp_path / "rows.json", rows, form)) as table:
        assert list(table.rows(["text", "of"])) == [(row["text"], row["of"]) for row in rows]


def test_a_part_without_large_integers_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(table_file, "BATCH", 2)
    values = [1, 2, 3, 2**64 + 1, 5, 6, 0.5, 2**64 + 3]
    source = written(tmp_path / "rows.jsonl", [{"of": value} for value in values])
    with table_file.opened(source) as table:
        assert [value for (value,) in table.rows(["of"])] == values


def test_other_values_are_not_looked_up(tmp_path, monkeypatch):
    source = written(tmp_path / "rows.jsonl", [{"text": "a", "n": 1, "day": "2020-01-01"}] * 3)
    with table_file.opened(source) as table:
        source.path.unlink()
        assert list(table.rows(["text", "n"])) == [("a", 1)] * 3


def test_a_file_of_another_form_is_refused_in_one_line(tmp_path):
    source = written(tmp_path / "rows.json", [{"text": "a", "day": "2020-01-01"}])
    with table_file.opened(source) as table:
        source.path.write_text('{\n"text": 1}')
        with pytest.raises(DataError, match=r"^rows\.json: .* needs an object in each line$"):
            list(table.rows(["day"]))


def test_dates_are_labels_texts_slices_and_groups(tmp_path):
    rows = [
        {"text": f"2020-01-{at:02d}", "label": f"2020-01-0{1 + at % 2}", "day": "2020-01-01"}
        for at in range(1, 21)
    ]
    written(tmp_path / "rows.jsonl", rows)
    recipe = Data(train="rows.jsonl", eval="rows.jsonl", slices=("day",), dev="rows.jsonl")
    splits, summary = data.load(recipe, TEXT_CLASSIFICATION.reader, data.locate(recipe, tmp_path))
    assert summary.labels == ["2020-01-01", "2020-01-02"]
    assert list(splits["eval"].texts) == [row["text"] for row in rows]
    assert set(splits["eval"].columns["day"]) == {"2020-01-01"}


# Types of columns


def write_lines(path: Path, rows: list[object]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text, 1) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_rows_that_differ_from_the_first_ten_megabytes_are_read(tmp_path, name):
    """The file was refused, with "Couldn't cast", even if no recipe's column differed."""
    first = [{"text": "x" * (1 << 20), "note": None, "score": 1, "id": n} for n in range(12)]
    later = [{"text": "end", "note": "hi", "score": 0.5, "id": "7a", "more": True}]
    path = write_lines(tmp_path / name, [*first, *later])
    with table_file.opened(Source("train", name, path, file_sha256(path))) as table:
        assert table.names == ["text", "note", "score", "id", "more"]
        *most, last = table.rows(["note", "score", "id", "more"])
    assert most == [(None, 1.0, n, None) for n in range(12)]
    assert last == ("hi", 0.5, "7a", True)


def test_a_late_line_that_is_not_json_is_an_error_of_one_line(tmp_path):
    path = write_lines(tmp_path / "rows.jsonl", [{"text": "x" * (1 << 20)}] * 12)
    path.write_bytes(path.read_bytes() + b'{"text": "cut')
    with (
        pytest.raises(DataError, match=r"^rows\.jsonl: cannot be read: [^\n]+$"),
        table_file.opened(Source("train", path.name, path, file_sha256(path))),
    ):
        pass


@pytest.mark.parametrize("chunk", [1, 1 << 20], ids=["line by line", "at once"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([None, "a"], Value("string")),
        ([1, 0.5], Value("float64")),
        ([1, "a"], Json()),
        ([True, 1], Json()),
        (["2020-01-01", "never"], None),
        ([[], ["a"]], List(Value("string"))),
        ([{"a": 1}, {"b": "x"}], {"a": Value("int64"), "b": Value("string")}),
        ([{"a": 1}, "x"], Json()),
        ([1, "a", 2.5], Json()),
    ],
)
def test_a_type_includes_those_of_all_rows(tmp_path, values, expected, chunk):
    path = write_lines(
        tmp_path / "rows.jsonl", [{"text": "x"}, *({"of": value} for value in values)]
    )
    found = json_rows.features(path, chunk)
    assert list(found) == ["text", "of"]
    if expected is None:  # as a date or as text, but never the text of a date as another
        expected = Json() if chunk == 1 else Value("string")
    assert found["of"] == expected


@pytest.mark.parametrize("text", ["[1]\n", '{"text": 1\n', "no json\n", '{"a": 1}\n[2]\n'])
def test_lines_that_are_not_objects_are_an_error(tmp_path, text):
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"."):
        json_rows.features(tmp_path / "rows.jsonl")
