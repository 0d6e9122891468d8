"""The order of labels, and labels that train lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rarefy.pipeline.data.table import Source
from rarefy.pipeline.tasks import bases
from rarefy.pipeline.terms.errors import DataError

SOURCE = Source("eval", "eval.jsonl", Path("eval.jsonl"), "0" * 64)


def test_integers_are_ordered_by_value_and_names_by_letter():
    assert bases.ordered_labels(["10", "9", "-1", "9"], SOURCE) == ["-1", "9", "10"]
    assert bases.ordered_labels(["10", "9", "b", "a"], SOURCE) == ["10", "9", "a", "b"]


def test_a_thousand_labels_are_the_most():
    assert len(bases.ordered_labels(map(str, range(1000)), SOURCE)) == 1000
    with pytest.raises(DataError, match=r"has 1001 different labels; check 'data\.label'"):
        bases.ordered_labels(map(str, range(1001)), SOURCE)


def test_a_label_has_its_place_and_those_that_train_lacks_are_named():
    assert bases.label_places({"b"}, ["a", "b"], SOURCE) == {"a": 0, "b": 1}
    with pytest.raises(DataError, match="eval has the label 'c', 'd', which does not occur"):
        bases.label_places({"a", "d", "c"}, ["a", "b"], SOURCE)
    with pytest.raises(DataError, match=r"does not occur in the model's labels \(a, b\)"):
        bases.label_places(
            {"c"}, ["a", "b"], replace(SOURCE, labels_of="the model's labels (a, b)")
        )
