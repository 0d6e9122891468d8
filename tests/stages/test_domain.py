"""Texts that read like a domain's are found."""

from __future__ import annotations

from stages.domain import nearest


def test_texts_with_the_domains_words_are_chosen_in_their_order():
    texts = ["stocks fell on Monday", "a dull film", "rain is likely", "the film has a good plot"]
    films = ["a film with a plot", "this film is good", "dull film"]
    assert nearest(texts, films, 2) == [1, 3]


def test_a_long_text_is_not_preferred_for_its_length():
    texts = ["film", "film and many words of another kind about weather in spring"]
    assert nearest(texts, ["film"], 1) == [0]
