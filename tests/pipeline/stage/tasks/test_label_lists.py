"""The labels of a row as files hold them."""

from __future__ import annotations

import pytest

from pipeline.stage.tasks import label_lists
from pipeline.stage.tasks.label_lists import NotLabelsError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["b", "a"], ("b", "a")),
        ([], ()),
        ([1, 2.0], ("1", "2")),
        ('["a, b", "c"]', ("a, b", "c")),
        ("['a', 'b']", ("a", "b")),
        (" [] ", ()),
        ("a; b;", ("a", "b")),
        ("a, b", ("a, b",)),
    ],
)
def test_labels_are_a_list_or_text(value, expected):
    assert label_lists.listed(value) == expected


@pytest.mark.parametrize("value", [["a", "a "], "a;a", [None], [["a"]], {"a": 1}, 1.5, "[a"])
def test_what_is_no_list_of_labels_is_refused(value):
    with pytest.raises(NotLabelsError):
        label_lists.listed(value)


def test_columns_of_0_and_1_name_the_labels():
    columns = ("a", "b", "c")
    assert label_lists.flagged((1, 0, 1.0), columns) == ["a", "c"]
    assert label_lists.flagged(("True", "0", "1"), columns) == ["a", "c"]
    assert label_lists.flagged((True, None, 1), columns) is None
    with pytest.raises(NotLabelsError, match="column 'b' has 'yes', not 0 or 1"):
        label_lists.flagged((1, "yes", 0), columns)
