"""Texts that read like a domain's are found."""

from __future__ import annotations

from stages.domain import nearest


def test_texts_with_the_domains_words_come_first():
    texts = ["stocks fell on Monday", "a dull film", "rain is likely", "the film has a good plot"]
    films = ["a film with a plot", "this film is good", "dull film"]
    assert set(nearest(texts, films)[:2]) == {1, 3}


def test_a_long_text_is_not_preferred_for_its_length():
    texts = ["film", "film and many words of another kind about weather in spring"]
    assert nearest(texts, ["film"])[0] == 0


def test_scripts_without_spaces_are_compared_by_pairs_of_characters():
    films = ["这部电影很好看", "电影的演员很精彩", "一部无聊的电影"]
    texts = ["股市今天下跌了", "央行提高了利率", "明天北方有雨", "电影很无聊", "演员演得很好看"]
    assert set(nearest(texts, films)[:2]) == {3, 4}
