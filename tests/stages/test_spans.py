"""Texts cut out of others."""

from __future__ import annotations

import random

import pytest

from stages.spans import clauses, noised, normalized, spans, splice

TEXT = "I liked the first half, but the ending was weak and nobody laughed."


def test_clauses_end_after_punctuation_and_before_conjunctions():
    assert clauses(TEXT) == [
        "I liked the first half",
        "but the ending was weak",
        "and nobody laughed.",
    ]


@pytest.mark.parametrize("text", ["fine", "a good film", "Well, yes"])
def test_a_text_that_nothing_cuts_has_no_clauses(text):
    assert clauses(text) == []


def test_languages_without_listed_conjunctions_are_cut_at_their_punctuation():
    assert clauses("C'était bien, mais trop long !") == ["C'était bien", "mais trop long !"]


def test_spans_are_shorter_runs_of_the_words():
    draw = random.Random(0)
    found = spans(TEXT, 200, draw)
    assert len(found) == 200
    plain = normalized(TEXT)
    for span in found:
        words = normalized(span).split()
        assert 2 <= len(words) <= 14
        assert len(words) < len(plain.split())
        assert normalized(span) in plain


def test_a_text_of_two_words_has_no_spans():
    assert spans("two words", 5, random.Random(0)) == []


def test_a_splice_is_a_clause_of_each_text():
    draw = random.Random(3)
    joined = splice(TEXT, "bad sound", draw)
    first = joined.removesuffix(" bad sound")
    assert joined != first
    assert first in clauses(TEXT)


def test_noise_leaves_out_and_swaps_but_invents_nothing():
    draw = random.Random(0)
    for _ in range(50):
        words = noised(TEXT, draw).split()
        assert sorted(words) != sorted(TEXT.split()) or words != TEXT.split()
        assert set(words) <= set(TEXT.split())
    assert noised("one", draw) == "one"


def test_case_punctuation_and_spaces_do_not_count_for_equality():
    assert normalized(" It's  GOOD!") == normalized("it s good")
    assert normalized("?!") == "?!"


def test_a_text_without_spaces_is_cut_between_its_characters():
    text = "这部电影的前半部分很有意思，但是结尾太弱了，没有人笑得出来，真是可惜。"
    assert clauses(text)[0] == "这部电影的前半部分很有意思"
    found = spans(text, 20, random.Random(0))
    assert all(2 <= len(span) <= 14 and span in text for span in found)
    assert noised(text, random.Random(0)) != text


@pytest.mark.parametrize(
    ("one", "other"),
    [("यह की है", "यह का है"), ("like it 👍", "like it 👎"), ("C++", "C"), ("กิน", "กัน")],
)
def test_marks_and_symbols_count(one, other):
    assert normalized(one) != normalized(other)


@pytest.mark.parametrize(
    "text", ["这部电影非常好看，演员很精彩。", "หนังเรื่องนี้สนุกมาก", "映画は 面白かった"]
)
def test_scripts_without_spaces_are_cut_however_short(text):
    found = spans(text, 10, random.Random(0))
    assert found
    assert all(2 <= len(each) <= 14 and each in text for each in found)
    assert noised(text, random.Random(1)) != text


def test_other_scripts_end_their_clauses_too():
    assert clauses("यह अच्छा है। वह भी") == ["यह अच्छा है।", "वह भी"]
