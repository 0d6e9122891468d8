"""Spans of characters take whole words; what cannot be read is refused in one line."""

import pytest

from rarefy.pipeline.tasks.token_classification import offsets
from rarefy.pipeline.tasks.token_classification.entities import Span
from rarefy.pipeline.terms.errors import DataError

TEXT = "Ann lives in New York, USA"
WORDS = [(0, 3), (4, 9), (10, 12), (13, 16), (17, 21), (21, 22), (23, 26)]


def test_spans_on_word_borders_go_there_and_back():
    spans = [Span(13, 21, "LOC"), Span(0, 3, "PER"), Span(23, 26, "LOC")]
    words = offsets.words_of(spans, WORDS, TEXT)
    assert words == [(0, 1, "PER"), (3, 5, "LOC"), (6, 7, "LOC")]
    assert offsets.characters_of(words, WORDS) == sorted(spans)


@pytest.mark.parametrize(
    ("span", "words"),
    [
        ((14, 16), (3, 4)),  # "ew"
        ((15, 18), (3, 5)),  # "w Y"
        ((12, 17), (3, 4)),  # " New "
        ((9, 13), (2, 3)),  # " in "
        ((0, 26), (0, 7)),
    ],
)
def test_a_span_takes_every_word_that_it_touches(span, words):
    assert offsets.words_of([Span(*span, "LOC")], WORDS, TEXT) == [(*words, "LOC")]


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(5, 5)], "span 5–5 (X) is not within the text, which has 26 characters"),
        ([(6, 5)], "span 6–5 (X) is not within the text, which has 26 characters"),
        ([(-1, 3)], "span -1–3 (X) is not within the text, which has 26 characters"),
        ([(20, 27)], "span 20–27 (X) is not within the text, which has 26 characters"),
        ([(13, 21), (17, 21)], "spans 13–21 (X) and 17–21 (X) overlap"),
        ([(13, 16), (13, 16)], "spans 13–16 (X) and 13–16 (X) overlap"),
        ([(16, 17)], "span 16–17 (X) holds no word: ' '"),
        ([(13, 15), (15, 16)], "spans 13–15 (X) and 15–16 (X) share the word 'New'"),
    ],
)
def test_a_span_that_cannot_be_read_is_refused(spans, message):
    with pytest.raises(DataError) as raised:
        offsets.words_of([Span(*span, "X") for span in spans], WORDS, TEXT)
    assert str(raised.value) == message
    assert raised.value.exit_code == 2


def test_a_text_without_words_has_no_spans():
    assert offsets.words_of([], [], "") == []
    with pytest.raises(DataError, match="holds no word"):
        offsets.words_of([Span(0, 1, "X")], [], " ")
