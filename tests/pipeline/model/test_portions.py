"""Long texts are read a few at a time, short ones many."""

from __future__ import annotations

import pytest

from rarefy.pipeline.model import batches


@pytest.mark.parametrize(
    ("lengths", "pairs", "expected"),
    [
        ([], None, []),
        ([3, 3, 3, 3, 3], None, [3, 2]),
        ([20, 1, 1, 20], None, [1, 2, 1]),
        ([3, 3, 3], [3, 3, 3], [1, 1, 1]),
        ([0] * 7, None, [4, 3]),
    ],
)
def test_a_portion_has_as_many_rows_as_fit(monkeypatch, lengths, pairs, expected):
    monkeypatch.setattr(batches, "CHARACTERS", 10)
    monkeypatch.setattr(batches, "ROWS", 4)
    texts = ["x" * length for length in lengths]
    second = None if pairs is None else ["y" * length for length in pairs]
    found = list(batches.portions(texts, second))
    assert [len(part) for part in found] == expected
    assert [row for part in found for row in part] == list(range(len(texts)))
