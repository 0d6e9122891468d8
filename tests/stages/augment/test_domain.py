"""Texts that read like a domain's are found."""

from __future__ import annotations

from rarefy.stages.augment.domain import ranked


def test_texts_with_the_domains_words_come_first():
    texts = ["stocks fell on Monday", "a dull film", "rain is likely", "the film has a good plot"]
    films = ["a film with a plot", "this film is good", "dull film"]
    assert ranked(texts.__getitem__, range(len(texts)), films) == [1, 3, 2, 0]


def test_the_texts_at_other_places_count_for_nothing():
    texts = ["a good film", "rain is likely", "the film is good", *["a good film"] * 9]
    assert ranked(texts.__getitem__, [1, 2], ["a good film"]) == [2, 1]


def test_a_long_text_is_not_preferred_for_its_length():
    texts = ["film", "film and many words of another kind about weather in spring"]
    assert ranked(texts.__getitem__, range(len(texts)), ["film"]) == [0, 1]


def test_in_a_script_without_spaces_pairs_of_characters_are_words():
    texts = ["股票星期一下跌了", "今天北方有雨", "这部电影很好看", "手机的电池很差"]
    assert ranked(texts.__getitem__, range(len(texts)), ["那部电影太长", "电影不好看"])[0] == 2
    texts = ["หุ้นตกวันจันทร์", "หนังเรื่องนี้ดีมาก"]
    assert ranked(texts.__getitem__, range(len(texts)), ["หนังเรื่องนั้นยาวไป"])[0] == 1


def test_english_words_among_them_stay_whole():
    texts = ["我的phone很好", "我的iPad很好"]
    assert ranked(texts.__getitem__, range(len(texts)), ["iPad坏了", "iPad好看"]) == [1, 0]
