"""Cells of a table: what counts as missing, and numbers as text."""

from __future__ import annotations

import math

import pytest

from rarefy.pipeline.data.table import as_number, as_text, given_text, is_missing
from rarefy.pipeline.terms.errors import DataError


@pytest.mark.parametrize("value", [None, math.nan, "", " \t"])
def test_nothing_is_missing(value):
    assert is_missing(value)


@pytest.mark.parametrize("value", [0, 0.0, False, "none", "nan", [], {}])
def test_something_is_not(value):
    assert not is_missing(value)


@pytest.mark.parametrize(("value", "text"), [(1.0, "1"), (1, "1"), (0.5, "0.5"), ("a", "a")])
def test_a_whole_number_is_the_same_label_with_and_without_a_point(value, text):
    assert as_text(value) == text


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3.0), ("-2.5", -2.5), ("1e3", 1000.0), ("three", None), (None, None), ("inf", None)],
)
def test_a_number_is_finite_and_may_be_text(value, number):
    assert as_number(value) == number


@pytest.mark.parametrize("given", [None, 7, ["new", "york"], b"bytes", "half \ud800"])
def test_what_is_given_to_be_answered_is_text(given):
    assert given_text("Ünï 🎬") == "Ünï 🎬"
    with pytest.raises(DataError):
        given_text(given)
