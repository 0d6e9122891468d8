"""Data files as tables: whole, in order, and with little memory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from pipeline.stage import table_file
from pipeline.stage.table_file import Source
from pipeline.terms.digests import file_sha256
from pipeline.terms.errors import DataError


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
    import gzip

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
