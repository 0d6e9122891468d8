"""Rows that repeat others are counted as one, also where `data.group` names other groups."""

from __future__ import annotations

import pytest

from rarefy.pipeline.data import repeats
from rarefy.pipeline.data.split import Split


@pytest.mark.parametrize(
    ("groups", "texts", "expected"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]),
        ([0, 1, 2, 3], [0, 1, 0, 1], [0, 1, 0, 1]),
        ([0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 3, 4], [0, 1, 1, 0, 2, 2]),
        ([0, 0, 1, 1, 2], [0, 1, 0, 1, 2], [0, 0, 0, 0, 1]),
        ([0, 0, 0, 1], [0, 0, 1, 2], [0, 0, 0, 1]),
    ],
    ids=["all differ", "no groups", "a frequent text", "a copied document", "within a group"],
)
def test_clusters_of_groups_and_texts(groups, texts, expected):
    assert repeats.clusters(groups, texts) == expected


def split(texts, labels=None, pairs=None):
    return Split("eval", "eval.jsonl", "0" * 64, texts, pairs, labels)


def test_repeated_rows_and_texts_with_several_labels_are_named():
    (repeated,) = repeats.warnings(split(["a b", "A b!", "c"] * 100, [0, 0, 1] * 100), ["x", "y"])
    assert repeated.startswith("eval: 298 of 300 rows repeat others: 2 different ones; ")
    once, several = repeats.warnings(split(["a", "a", "b"], [0, 1, 0]), ["x", "y"])
    assert once.startswith("eval: 1 of 3 rows repeats another: 2 different ones; ")
    assert several.startswith("eval: 1 text has more than one label, ")
    assert len(repeats.warnings(split(["a", "a", "b"], [0.5, 1.0, 0]), [])) == 1, "scores may vary"
    assert repeats.warnings(split(["a", "a"], [0, 0], ["b", "c"]), ["x"]) == []
