"""Texts cut out of others."""

from __future__ import annotations

import random

import pytest

from rarefy.pipeline.data.split import normalized
from rarefy.stages.transfer.spans import clauses, spans, splice, units, unspaced

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


def test_a_text_without_spaces_is_cut_between_its_characters():
    text = "这部电影的前半部分很有意思，但是结尾太弱了，没有人笑得出来，真是可惜。"
    assert clauses(text)[0] == "这部电影的前半部分很有意思"
    found = spans(text, 20, random.Random(0))
    assert all(2 <= len(span) <= 14 and span in text for span in found)


def test_a_short_text_without_spaces_is_cut_as_well():
    assert clauses("很好看，但是太长了") == ["很好看", "但是太长了"]
    assert all(len(span) in (2, 3) for span in spans("很好看。", 9, random.Random(0)))


def test_a_space_does_not_make_two_words_of_it():
    text = "这部电影的前半部分很有意思 但是结尾太弱了"
    assert clauses(text) == text.split()
    assert len(units(text)[0]) == len(text)


def test_words_that_somebody_put_spaces_between_stay_words():
    text = "我 爱 北京 天安门"
    assert units(text) == (text.split(), " ")


def test_marks_stay_with_their_character_and_other_words_whole():
    assert units("น้ำดี") == (["น้", "ำ", "ดี"], "")
    found = ["我", "昨", "天", "用", "iPhone", " ", "15.5", "拍", "照", "片"]
    assert units("".join(found)) == (found, "")


@pytest.mark.parametrize("text", ["よかったです", "カメラ", "ดีมาก", "ល្អណាស់", "用iOS很好看"])
def test_scripts_without_spaces_are_known(text):
    assert unspaced(text)


@pytest.mark.parametrize(
    "text", ["averylongwordwithoutanyspacesatallinit", "좋은 영화", "的 iOS", "123", ""]
)
def test_other_scripts_have_spaces(text):
    assert not unspaced(text)
    assert units(text) == (text.split(), " ")


@pytest.mark.parametrize(
    ("text", "first"), [("अच्छा था। पर लंबा था।", "अच्छा था।"), ("جيد جدا، لكن طويل", "جيد جدا")]
)
def test_the_punctuation_of_other_scripts_ends_a_clause(text, first):
    assert clauses(text)[0] == first
