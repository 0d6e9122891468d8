"""The labels of a row as files hold them."""

from __future__ import annotations

import pytest

from rarefy.pipeline.tasks.classification import label_columns
from rarefy.pipeline.tasks.classification.label_columns import NotLabelsError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["b", "a"], ("b", "a")),
        ([], ()),
        ([1, 2.0], ("1", "2")),
        ('["a, b", "c"]', ("a, b", "c")),
        ("['a', 'b']", ("a", "b")),
        ("['a' , \n\"it's 'b' 'c'\",]", ("a", "it's 'b' 'c'")),
        (" [] ", ()),
        ("a; b;", ("a", "b")),
        ("a, b", ("a, b",)),
    ],
)
def test_labels_are_a_list_or_text(value, expected):
    assert label_columns.listed(value) == expected


@pytest.mark.parametrize("value", [["a", "a "], "a;a", [None], [["a"]], {"a": 1}, 1.5, "[a"])
def test_what_is_no_list_of_labels_is_refused(value):
    with pytest.raises(NotLabelsError):
        label_columns.listed(value)


@pytest.mark.parametrize("text", ["['a' 'b']", "['a'\n 'b']", "['a', 'b' \"c\"]"])
def test_texts_without_a_comma_are_not_joined_as_numpy_prints_an_array(text):
    with pytest.raises(NotLabelsError, match="lacks a comma between two labels"):
        label_columns.listed(text)


def test_columns_of_0_and_1_name_the_labels():
    columns = ("a", "b", "c")
    assert label_columns.flagged((1, 0, 1.0), columns) == ["a", "c"]
    assert label_columns.flagged(("True", "0", "1"), columns) == ["a", "c"]
    assert label_columns.flagged((True, None, 1), columns) is None
    with pytest.raises(NotLabelsError, match="column 'b' has 'yes', not 0 or 1"):
        label_columns.flagged((1, "yes", 0), columns)
