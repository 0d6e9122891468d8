"""Batches are made once, whatever stops a run."""

from __future__ import annotations

from itertools import islice

from stages import batches


def test_batches_that_were_written_down_are_not_made_again(tmp_path):
    path, made = tmp_path / "made.jsonl", []

    def make(number):
        made.append(number)
        return [f"text {number}"]

    assert list(islice(batches.kept(path, make), 3)) == [["text 0"], ["text 1"], ["text 2"]]
    assert list(islice(batches.kept(path, make), 4))[-1] == ["text 3"]
    assert made == [0, 1, 2, 3]


def test_a_torn_line_is_made_again(tmp_path):
    path = tmp_path / "made.jsonl"
    list(islice(batches.kept(path, lambda number: number), 3))
    path.write_bytes(path.read_bytes()[:-1])
    made = list(islice(batches.kept(path, lambda number: 10 + number), 4))
    assert made == [0, 1, 12, 13]
    assert path.read_text() == "0\n1\n12\n13\n"
