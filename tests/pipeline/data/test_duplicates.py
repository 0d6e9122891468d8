"""Tests of which rows of text count as the same."""

from __future__ import annotations

import pytest

from rarefy.pipeline.data.split import normalized, row_digest


def test_case_punctuation_and_spaces_do_not_count_for_equality():
    assert normalized(" It's  GOOD!") == normalized("it s good")
    assert normalized("?!") == "?!"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Caf\u00e9", "Cafe\u0301"),
        ("ＦＩＬＭ　ｇｏｏｄ", "film good"),
        ("won\u00adder\u200bful", "wonderful"),
        ("\u0399\u0308\u0301", "\u0390"),  # a capital that is written as three characters
        ("I ❤\ufe0f it", "I ❤ it"),
        ("it´s `good`", "it's 'good'"),
    ],
)
def test_the_ways_to_write_a_character_do_not_count_for_equality(one, other):
    assert normalized(one) == normalized(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("कि", "की"),
        ("ใกล้", "ใกล"),
        ("like it 👍", "like it 👎"),
        ("C++", "C#"),
        ("1 < 2", "1 > 2"),
    ],
)
def test_marks_and_symbols_count_for_equality(one, other):
    assert normalized(one) != normalized(other)


def test_rows_of_the_same_texts_have_one_digest_in_either_order():
    assert row_digest(("A film.", "Good!")) == row_digest(("good", "a film"))
    assert row_digest(("a film", None)) == row_digest(("A film",))
    assert row_digest(("a film",)) != row_digest(("a film", "good"))
