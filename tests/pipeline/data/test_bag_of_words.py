"""Words are found in every script, and in English as a regular expression finds them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rarefy.pipeline.data.bag_of_words import cut, words


def test_words_are_lower_case_runs_of_letters_and_digits():
    assert words("Naïve Über-café, 42!") == ["naïve", "über", "café", "42"]


def test_symbols_are_words_if_they_are_asked_for():
    assert words("Not good :( 👎", symbols=True) == ["not", "good", ":", "(", "👎"]


@given(
    st.text(  # the small letter of İ has a mark
        st.characters(max_codepoint=0x24F, exclude_categories=["Cc"], exclude_characters="İ")
    )
)
def test_of_latin_letters_they_are_those_of_the_re_module(text):
    assert words(text) == re.findall(r"\w+", text.lower())
    assert words(text, symbols=True) == re.findall(r"\w+|[^\w\s]", text.lower())


@pytest.mark.parametrize("text", ["हिन्दी में किताब", "தமிழ் மொழி", "বাংলা ভাষা", "שָׁלוֹם עוֹלָם"])
def test_marks_belong_to_their_word(text):
    assert words(text) == words(text, symbols=True) == text.split()


def test_joiners_do_not_end_a_word():
    assert words("می\u200cخواهم ශ්\u200dරී") == ["می\u200cخواهم", "ශ්\u200dරී"]


def test_a_letter_with_its_mark_is_the_same_word_in_both_ways_to_write_it():
    assert words("cafe\u0301") == words("caf\u00e9") == ["caf\u00e9"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("这部电影很好。", ["这部", "部电", "电影", "影很", "很好"]),
        ("スーパー", ["スー", "ーパ", "パー"]),
        ("ดีมาก", ["ดีม", "มา", "าก"]),
        ("好", ["好"]),
        ("我用iPhone15拍照", ["我用", "iphone15", "拍照"]),
        ("좋은 영화", ["좋은", "영화"]),
    ],
)
def test_in_scripts_without_spaces_pairs_of_characters_are_words(text, expected):
    assert words(text) == expected


def test_what_has_no_spaces_but_those_of_its_script_is_one_word():
    assert cut("c++") == ["c++"]
    assert cut("👍🏽") == ["👍🏽"]
