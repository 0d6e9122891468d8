"""What a split says of its rows."""

from __future__ import annotations

from rarefy.pipeline.data.split import Split


def test_a_record_names_the_split_its_file_its_rows_and_its_bytes():
    split = Split("dev", "train.jsonl", "1" * 64, ["a", "b"], None, None)
    record = split.record()
    assert (record.name, record.split, record.rows) == ("train.jsonl", "dev", 2)
    assert record.sha256 == "1" * 64


def test_groups_are_numbered_in_the_order_of_the_rows():
    split = Split(
        "train", "t", "1" * 64, ["a", "b", "c"], None, [0.0, 2, 1], groups=["y", "x", "y"]
    )
    assert list(split.group_numbers) == [0, 1, 0]
    assert split.greatest_label == 2
    assert list(Split("eval", "e", "2" * 64, ["a"], None, None).group_numbers) == []


def test_rows_are_spread_evenly_also_if_there_are_few_more_than_asked_for():
    def places(rows: int, count: int) -> list[int]:
        return Split("dev", "d", "1" * 64, ["a"] * rows, None, None).evenly(count)

    assert places(7, 4) == [0, 1, 3, 5]
    assert places(3, 5) == [0, 1, 2]
    assert places(0, 5) == []
    assert max(places(511, 256)) > 500
