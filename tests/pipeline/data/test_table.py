"""Data files as tables: whole, in order, and with little memory."""

from __future__ import annotations

import csv
import gzip
import json
import tracemalloc
from pathlib import Path

import pytest

from rarefy.pipeline.data import table as table_file
from rarefy.pipeline.data.table import Source
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import DataError


def source(path: Path) -> Source:
    return Source("train", path.name, path, file_sha256(path))


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_rows_come_in_order_and_never_all_at_once(tmp_path, ending):
    import pandas

    path, count = tmp_path / f"rows.{ending}", 20_000
    table = pandas.DataFrame(
        {"text": [f"row {n} " + "x" * 500 for n in range(count)], "label": ["a"] * count}
    )
    if ending == "parquet":
        table.to_parquet(path)
    elif ending == "csv":
        table.to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_dict("records")))
    given = source(path)
    with table_file.opened(given) as opened:
        tracemalloc.start()
        try:
            numbers = [int(text.split()[1]) for text, _ in opened.rows(["text", "label"])]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert numbers == list(range(count))
    assert peak < 5_000_000, "the texts alone are 10 MB"


def test_columns_are_in_the_file_s_order_and_chosen_by_name(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"b": "x", "a": 1, "c": [1, 2]}\n{"b": null, "a": 2, "c": []}\n')
    with table_file.opened(source(path)) as table:
        assert table.names == ["b", "a", "c"]
        assert list(table.rows(["c", "b"])) == [([1, 2], "x"), ([], None)]
        assert list(table.rows(["a"])) == [(1,), (2,)]


def test_a_compressed_file_is_read_by_its_inner_extension(tmp_path):
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(b"text,label\nbright,1\n"))
    with table_file.opened(source(path)) as table:
        assert list(table.rows(["text", "label"])) == [("bright", "1")]


def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "cut')
    with (
        pytest.raises(DataError, match=r"^rows\.jsonl: cannot be read: "),
        table_file.opened(source(path)),
    ):
        pass


@pytest.mark.parametrize("name", ["train[1].csv", "train?.csv", "train*.csv", "[1]/train.csv"])
def test_the_file_of_that_very_name_is_read(tmp_path, name):
    """The library took it for a pattern, and read another file than the one that was hashed."""
    (tmp_path / "train1.csv").write_text("text,label\nanother,1\n")
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    assert rows_of(path, "text,label\nbright,1\n") == [("bright", "1")]


def rows_of(path: Path, text: str, columns=("text", "label")):
    path.write_text(text)
    with table_file.opened(source(path)) as table:
        return list(table.rows(list(columns)))


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_a_tsv_file_without_quoting_keeps_its_rows(tmp_path, end):
    """Read as CSV, what stands between two quotation marks was one text: a row was lost."""
    path = tmp_path / "rows.tsv"
    text = 'text\tlabel\n"I loved it\t1\nHe said "no"\t0\nplain\t1\n"It ends so"\t0' + end
    assert rows_of(path, text) == [
        ('"I loved it', "1"),
        ('He said "no"', "0"),
        ("plain", "1"),
        ('"It ends so"', "0"),
    ]
    assert table_file.form(source(path)) == "unquoted"
    one = 'text\tlabel\n"never ended\t1\nplain\t0\n'
    assert rows_of(path, one) == [('"never ended', "1"), ("plain", "0")]


def test_a_quotation_mark_that_nothing_closes_is_not_looked_for_to_the_end(tmp_path):
    path, limit = tmp_path / "rows.tsv", csv.field_size_limit(100)
    try:
        text = 'text\tlabel\n"never ended\t1\n' + "plain\t0\n" * 20
        assert rows_of(path, text)[0] == ('"never ended', "1")
    finally:
        csv.field_size_limit(limit)
    assert limit == table_file.LONGEST


@pytest.mark.parametrize(
    "texts",
    [
        ["tab\there", "line\nbreak", 'a "word"', "plain"],
        ['a "word"', "plain", 'a long "one" ' + "x" * 200_000],
    ],
    ids=["tabs and lines", "a long text"],
)
def test_a_tsv_file_with_quoting_is_read_as_it_was_written(tmp_path, texts):
    import pandas

    path, labels = tmp_path / "rows.tsv", list("abcd")[: len(texts)]
    pandas.DataFrame({"text": texts, "label": labels}).to_csv(path, sep="\t", index=False)
    with table_file.opened(source(path)) as table:
        assert list(table.rows(["text", "label"])) == list(zip(texts, labels, strict=True))
    assert table_file.form(source(path)) is None


def test_rows_that_end_with_a_separator_keep_their_columns(tmp_path):
    """Each column had the values of the one before, and nothing was said."""
    path = tmp_path / "rows.csv"
    text = "text,label,source\nfine film,pos,web,\nbad,neg,,\n"
    assert rows_of(path, text) == [("fine film", "pos"), ("bad", "neg")]
    assert table_file.form(source(path)) == "trailing"


@pytest.mark.parametrize(
    ("rows", "number"),
    [
        ("a fine, warm film,pos\nbad,neg\n", 1),
        ("fine,pos,\na dull, cold film,neg\n", 2),
        ("1,fine,pos\n2,bad,neg\n", 1),
    ],
    ids=["a comma in a text", "in a later one", "a column without a name"],
)
def test_rows_with_more_fields_than_the_header_are_refused(tmp_path, rows, number):
    words = rf"^rows\.csv: row {number} has 3 fields, the header 2; put texts that contain the sepa"
    with pytest.raises(DataError, match=words):
        rows_of(tmp_path / "rows.csv", "text,label\n" + rows)


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
@pytest.mark.parametrize("header", ["review;stars", '"review";"stars"', "review|stars"])
def test_other_separators_are_refused_with_those_that_are_read(tmp_path, name, header):
    path = tmp_path / name
    path.write_text(f'{header}\n"Toll, und gut"{header.strip(chr(34))[6]}5\n')
    with pytest.raises(
        DataError, match=r"the header is one column, 'review.*; fields are separate"
    ):
        table_file.form(source(path))


@pytest.mark.parametrize("early", [True, False], ids=["first row", "last row"])
@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_text_of_another_encoding_is_refused_with_the_remedy(tmp_path, ending, early, capfd):
    path = tmp_path / f"rows.{ending}"
    rows = ["läuft", *["gut"] * 3000]
    separator = "\t" if ending == "tsv" else ","
    lines = [f"{row}{separator}5" for row in (rows if early else rows[::-1])]
    if ending == "jsonl":
        lines = [json.dumps({"text": row}, ensure_ascii=False) for row in rows]
    else:
        lines.insert(0, f"text{separator}stars")
    path.write_bytes("\n".join([*lines, ""]).encode("latin-1"))
    with (
        pytest.raises(
            DataError, match=r"^rows\.\w+: is not UTF-8 \(byte 0xe4\); convert it, e\.g\."
        ),
        table_file.opened(source(path)) as opened,
    ):
        list(opened.rows(["text"]))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("ending", "mark"), [("csv", ","), ("tsv", "\t")])
def test_a_column_that_the_header_has_twice_is_not_one_of_them(tmp_path, ending, mark):
    path = tmp_path / f"rows.{ending}"
    path.write_text("text,label,label\na,x,y\n".replace(",", mark))
    with table_file.opened(source(path)) as table:
        assert list(table.rows(["text"])) == [("a",)]
        with pytest.raises(DataError, match=r"the header has the column 'label' twice"):
            next(table.rows(["text", "label"]))


@pytest.mark.parametrize("form", ["lines", "list"])
@pytest.mark.parametrize(
    "values",
    [
        ["2020-01-01", "2021-12-31", None],
        ["2020-01-01T10:00:00Z", "2020-01-01 00:00:00", "2020-01-02"],
        [["2020-01-01"], [], ["2020-01-02", "2020-01-03"]],
        [2**64 + 1, 2**64 + 2, None],
        [1, "a", 2.5, True],
        [{"a": 1}, {"b": "x"}, "x"],
    ],
)
def test_values_of_json_are_as_in_the_file(tmp_path, values, form):
    rows = [{"text": f"t {at}", "of": value} for at, value in enumerate(values)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows, indent=1) if form == "list" else "\ufeff" + text)
    with table_file.opened(source(path)) as table:
        assert list(table.rows(["text", "of"])) == [(row["text"], row["of"]) for row in rows]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_columns_are_those_of_all_rows(tmp_path, name):
    path = tmp_path / name
    text = b'{"text": "x", "note": null}\n' * 3 + b'{"text": "end", "note": "hi", "more": true}\n'
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    with table_file.opened(source(path)) as table:
        assert table.names == ["text", "note", "more"]
        assert list(table.rows(["note", "more"])) == [(None, None)] * 3 + [("hi", True)]


@pytest.mark.parametrize(
    "text", ["[1]\n", '{"text": 1\n', "no json\n", '{"a": 1}\n[2]\n', '{"a": 1}\n{"text": "cut']
)
def test_lines_that_are_not_objects_are_an_error_of_one_line(tmp_path, text):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with (
        pytest.raises(DataError, match=r"^rows\.jsonl: cannot be read: [^\n]+$"),
        table_file.opened(source(path)),
    ):
        pass


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "x"}\n')
    table = table_file.opened(source(path))
    assert table.__enter__().names == ["text"]
    path.write_text('{"text": "y"}\n')
    with pytest.raises(DataError, match="changed while it was read"):
        table.__exit__(None, None, None)


def test_a_damaged_compressed_file_is_an_error_of_one_line(tmp_path):
    path = tmp_path / "rows.csv.xz"
    path.write_bytes(b"no archive")
    with (
        pytest.raises(DataError, match=r"^rows\.csv\.xz: cannot be read: "),
        table_file.opened(source(path)) as opened,
    ):
        list(opened.rows(opened.names))
