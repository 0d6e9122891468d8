"""Words get one token each, whatever the tokenizer, and long texts are read in windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from pipeline.model import words
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


def test_a_text_without_words_has_no_answers(backend):
    ((window,),) = words.windows(backend, [""], 32)
    assert window.first == []


def test_windows_of_one_text_are_one_feed_and_places_index_its_tokens():
    parts = [words.Window([1, 2, 3], [1, 1, 1], [0, 0, 0], [1]), words.Window([4], [1], [0], [0])]
    feed, places = words.feed(parts, ("input_ids", "attention_mask"))
    assert feed["input_ids"].tolist() == [[1, 2, 3], [4, 0, 0]]
    assert feed["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert feed["input_ids"].reshape(-1)[places].tolist() == [2, 4]


def test_raw_text_is_split_at_blanks_or_into_words_and_marks():
    text = "Chicago, IL\t60601."
    shown = [[text[a:b] for a, b in words.split(text, name)] for name in ("regex", "blank")]
    assert shown == [["Chicago", ",", "IL", "60601", "."], ["Chicago,", "IL", "60601."]]
