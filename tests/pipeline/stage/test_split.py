"""A split as a manifest records it."""

from __future__ import annotations

from pipeline.stage.split import Split


def test_a_record_names_the_split_its_file_its_rows_and_its_bytes():
    split = Split("dev", "train.jsonl", "1" * 64, ["a", "b"], None, None)
    record = split.record()
    assert (record.name, record.split, record.rows) == ("train.jsonl", "dev", 2)
    assert record.sha256 == "1" * 64
