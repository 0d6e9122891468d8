"""Rows for the parity check reach past every window and boundary."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from exporters.boundaries import joined, long_rows, reach

ROWS = [
    {"input_ids": [2, *range(10, 10 + length), 3], "attention_mask": [1] * (length + 2)}
    for length in (3, 0, 5)
]


@pytest.mark.parametrize(
    ("settings", "limit", "lengths"),
    [
        ({}, 64, [64]),
        ({"local_attention": 16}, 64, [9, 17, 64]),
        ({"sliding_window": None}, 64, [64]),
        ({"position_buckets": 256, "max_relative_positions": -1}, 512, [129, 257, 512]),
        ({"sliding_window": 100}, 40, [40]),  # no row of the bundle is so long
        ({"sliding_window": 4096}, 8192, [2049, 4097, 8192]),
        ({}, 8192, [2048]),
    ],
)
def test_rows_are_as_long_as_the_boundaries_and_the_bundle_demand(settings, limit, lengths):
    config = SimpleNamespace(**settings)
    made = long_rows(config, ROWS, limit)
    assert [len(row["input_ids"]) for row in made] == lengths
    assert reach(config, limit) == lengths[-1]


@pytest.mark.parametrize("length", [1, 2, 5, 8, 31, 200])
def test_a_joined_row_begins_and_ends_as_a_real_one_and_holds_the_others(length):
    row = joined(ROWS, length)
    assert len(row["input_ids"]) == len(row["attention_mask"]) == length
    assert row["input_ids"][0] == 2
    if length >= 5:
        assert row["input_ids"][-1] == 3
        assert not {2, 3} & set(row["input_ids"][1:-1])
    if length >= 31:
        assert set(row["input_ids"]) == {2, 3, *range(10, 15)}


def test_rows_without_a_middle_are_joined_too():
    assert joined([{"input_ids": [7]}], 4)["input_ids"] == [7] * 4
