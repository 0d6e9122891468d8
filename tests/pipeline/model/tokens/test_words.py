"""Words get one token each, whatever the tokenizer, and long texts are read in windows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from rarefy.pipeline.model.tokens import words
from tests import tokenizers

SENTENCE = ["He", "wasn't", "going", "to", "Überraschend", ",", "12345", "Randolph,", "``", "end"]


@pytest.fixture(scope="module", params=list(tokenizers.KINDS))
def backend(request, tmp_path_factory):
    folder: Path = tokenizers.write(request.param, tmp_path_factory.mktemp(request.param))
    return AutoTokenizer.from_pretrained(folder).backend_tokenizer


def first_texts(backend, text, window):
    """Return the characters from each answered word's token on, as far as the token goes."""
    encoding = backend.encode(text)
    return [encoding.offsets[place] for place in window.first]


def test_each_word_is_answered_by_the_first_token_that_ends_in_it(backend):
    text = words.joined(SENTENCE)
    ((window,),) = words.windows(backend, [text], 128)
    assert window.ids == backend.encode(text).ids
    starts = np.cumsum([0, *(len(word) + 1 for word in SENTENCE)])[:-1]
    ends = [end for _, end in first_texts(backend, text, window)]
    for word, start, end in zip(SENTENCE, starts, ends, strict=True):
        # A tokenizer without words before its merges may join a word and the blank behind it.
        assert start < end <= start + len(word) + 1, word


def test_every_word_is_answered_once_in_order_by_the_window_with_most_context(backend):
    many = [f"{word}{n}" for n in range(12) for word in SENTENCE]
    text = words.joined(many)
    limit = 20
    (parts,) = words.windows(backend, [text], limit)
    assert len(parts) > 3
    assert all(len(part.ids) <= limit for part in parts)
    assert sum(len(part.first) for part in parts) == len(many)
    ((whole,),) = words.windows(backend, [text], 4096)
    answered = [part.ids[place] for part in parts for place in part.first]
    assert answered == [whole.ids[place] for place in whole.first]
    room = limit - backend.num_special_tokens_to_add(False)
    for part in parts[1:-1]:
        sides = [min(place, len(part.ids) - 1 - place) for place in part.first]
        assert all(side >= room // 4 - 1 for side in sides)


def test_a_word_without_tokens_is_answered_by_the_next_and_the_last_by_the_one_before(backend):
    for listed in (["\u200b", "end"], ["end", "\u200b"], ["\u0000"]):
        ((window,),) = words.windows(backend, [words.joined(listed)], 32)
        assert len(window.first) == len(listed)
        assert all(place < len(window.ids) for place in window.first)

    def placed(*listed: str) -> words.Window:
        ((window,),) = words.windows(backend, [words.joined(list(listed))], 32)
        return window

    plain, between, last = (
        placed("a", "end"),
        placed("a", "\u200b", "end"),
        placed("a", "end", "\u200b"),
    )
    if between.ids == plain.ids:  # other tokenizers have a token for it
        assert between.first == [plain.first[0], plain.first[1], plain.first[1]]
    assert last.first[0] < last.first[1] <= last.first[2]


def test_a_text_without_words_has_no_answers(backend):
    ((window,),) = words.windows(backend, [""], 32)
    assert window.first == []


def test_windows_of_one_text_are_one_feed_and_places_index_its_tokens():
    parts = [words.Window([1, 2, 3], [1, 1, 1], [0, 0, 0], [1]), words.Window([4], [1], [0], [0])]
    feed, places = words.feed(parts, ("input_ids", "attention_mask"))
    assert feed["input_ids"].tolist() == [[1, 2, 3], [4, 0, 0]]
    assert feed["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert feed["input_ids"].reshape(-1)[places].tolist() == [2, 4]


def parts(text, splitter="words"):
    return [text[start:end] for start, end in words.split(text, splitter)]


def test_raw_text_is_split_at_blanks_or_into_words_and_symbols():
    text = "Chicago, IL\t60601."
    assert parts(text) == ["Chicago", ",", "IL", "60601", "."]
    assert parts(text, "blank") == ["Chicago,", "IL", "60601."]


@pytest.mark.parametrize(
    "listed",
    [
        ["दुनिया", ",", "दिल्ली"],
        ["กรุงเทพ", "ที่ดี"],
        ["شَمْس", "بيروت"],
        ["Ma\u0301laga", "is", "nai\u0308ve", "."],  # as NFD writes it
        ["می\u200cخواهم", "क\u094d\u200dष"],  # joiners
        ["Wort\u00adtrennung"],
        ["❤\ufe0f", "1\ufe0f\u20e3"],  # variation selectors, a keycap
        ["\u0301", "a"],  # a mark behind a blank has no character that it could belong to
        ["snake_case", "x²"],
    ],
)
def test_a_word_keeps_its_marks(listed):
    assert parts(words.joined(listed)) == listed


def test_a_chinese_character_is_a_word_as_it_has_no_spaces_beside_it():
    assert parts("我住在北京。") == list("我住在北京。")
    assert parts("BERT是模型2") == ["BERT", "是", "模", "型", "2"]
    assert parts("葛\U000e0100飾") == ["葛\U000e0100", "飾"]  # a variant of the character
    assert parts("\U00020000か") == ["\U00020000", "か"]


def test_every_character_but_blanks_is_in_one_word():
    text = "".join(map(chr, range(1, 0xD800)))
    found = words.split(text, "words")
    assert "".join(text[a:b] for a, b in found) == "".join(text.split())
    ascii_text = text[:127]
    plain = [found.span() for found in re.finditer(r"\w+|[^\w\s]", ascii_text)]
    assert words.split(ascii_text, "words") == plain
