"""The types of a JSONL file's columns, also of rows that differ from the first ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from datasets import Json, List, Value

from pipeline.stage import json_rows, table_file
from pipeline.stage.table_file import Source
from pipeline.terms.digests import file_sha256
from pipeline.terms.errors import DataError


def written(path: Path, rows: list[object]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text, 1) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_rows_that_differ_from_the_first_ten_megabytes_are_read(tmp_path, name):
    """The file was refused, with "Couldn't cast", even if no recipe's column differed."""
    first = [{"text": "x" * (1 << 20), "note": None, "score": 1, "id": n} for n in range(12)]
    later = [{"text": "end", "note": "hi", "score": 0.5, "id": "7a", "more": True}]
    path = written(tmp_path / name, [*first, *later])
    with table_file.opened(Source("train", name, path, file_sha256(path))) as table:
        assert table.names == ["text", "note", "score", "id", "more"]
        *most, last = table.rows(["note", "score", "id", "more"])
    assert most == [(None, 1.0, n, None) for n in range(12)]
    assert last == ("hi", 0.5, "7a", True)


def test_a_late_line_that_is_not_json_is_an_error_of_one_line(tmp_path):
    path = written(tmp_path / "rows.jsonl", [{"text": "x" * (1 << 20)}] * 12)
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
    path = written(tmp_path / "rows.jsonl", [{"text": "x"}, *({"of": value} for value in values)])
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
