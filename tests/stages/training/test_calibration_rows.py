"""Calibration batches contain rows of equal length."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from rarefy.stages.training import calibration_rows


class Row(dict):
    """A row that can be watched."""


class Lazy(Sequence):
    """Rows that are made when they are asked for, as those on disk are."""

    def __init__(self, lengths):
        self.lengths, self.made, self.most = lengths, [], 0

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, at):
        row = Row(input_ids=[at] * self.lengths[at])
        self.made.append(weakref.ref(row))
        self.most = max(self.most, sum(one() is not None for one in self.made))
        return row


def test_calibration_batches_need_no_padding():
    rows = [{"input_ids": [1] * length, "labels": 0} for length in (3, 5, 3, 5, 5, 9)]
    shapes = [tuple(b["input_ids"].shape) for b in calibration_rows.batches(rows, "cpu", size=2)]
    assert shapes == [(2, 3), (2, 5), (1, 5), (1, 9)]


def test_no_more_rows_are_held_than_a_batch_has():
    rows = Lazy([3, 5] * 40)
    batches = list(calibration_rows.batches(rows, "cpu", size=4))
    assert [batch["input_ids"][0, 0].item() for batch in batches][:2] == [0, 8]
    assert sum(len(batch["input_ids"]) for batch in batches) == 80
    assert rows.most <= 2 * 4, "one batch, and the next in the making"
