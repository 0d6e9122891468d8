"""Rows of about one length share a batch, and every row is in one."""

from __future__ import annotations

from pipeline.model.batches import batches_by_length, order_by_length, rows_of_equal_length

LENGTHS = [5, 2, 9, 2, 5]


def test_rows_of_one_length_stay_in_their_order():
    assert order_by_length(LENGTHS) == [1, 3, 0, 4, 2]


def test_the_last_batch_may_be_smaller():
    assert [list(batch) for batch in batches_by_length(LENGTHS, 2)] == [[1, 3], [0, 4], [2]]
    assert list(batches_by_length([], 2)) == []


def test_rows_of_equal_length_come_together():
    assert list(rows_of_equal_length(LENGTHS)) == [(2, [1, 3]), (5, [0, 4]), (9, [2])]
    assert list(rows_of_equal_length([[1, 2], [1], [1, 2]])) == [([1], [1]), ([1, 2], [0, 2])]
