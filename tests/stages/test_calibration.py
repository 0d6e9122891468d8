"""Calibration batches contain rows of equal length."""

from __future__ import annotations

from stages import calibration


def test_calibration_batches_need_no_padding():
    rows = [{"input_ids": [1] * length, "labels": 0} for length in (3, 5, 3, 5, 5, 9)]
    shapes = [tuple(b["input_ids"].shape) for b in calibration.batches(rows, "cpu", size=2)]
    assert shapes == [(2, 3), (2, 5), (1, 5), (1, 9)]
