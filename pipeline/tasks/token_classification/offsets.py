"""Spans of characters to spans of words, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from rarefy.pipeline.tasks.token_classification.entities import Span
from rarefy.pipeline.terms.errors import DataError


def words_of(spans: Iterable[Span], words: Sequence[tuple[int, int]], text: str) -> list[Span]:
    """Return spans of characters as spans of words, sorted.

    A span that begins or ends within a word takes the whole word.

    Args:
        spans: of characters.
        words: the first character of each word and the one after its last.
        text: in which they are.

    Raises:
        DataError: a span is empty or outside the text, holds no word, or shares a character or a
            word with another one.
    """
    places = np.array(words, dtype=int).reshape(-1, 2)
    starts, ends = places[:, 0], places[:, 1]
    of_words: list[Span] = []
    last = Span(0, 0, "")
    for span in sorted(spans):
        _check(span, last, text)
        first = int(np.searchsorted(ends, span.start, "right"))
        end = int(np.searchsorted(starts, span.end))
        if first >= end:
            characters = text[span.start : span.end]
            raise DataError(f"span {_in_words(span)} holds no word: {characters!r}")
        if of_words and first < of_words[-1].end:
            word = text[starts[first] : ends[first]]
            raise DataError(
                f"spans {_in_words(last)} and {_in_words(span)} share the word {word!r}"
            )
        of_words.append(Span(first, end, span.type))
        last = span
    return of_words


def check(spans: Iterable[Span], text: str) -> None:
    """Raise DataError if a span of characters is empty, outside the text, or overlaps another."""
    last = Span(0, 0, "")
    for span in sorted(spans):
        _check(span, last, text)
        last = span


def _check(span: Span, last: Span, text: str) -> None:
    """Raise DataError unless a span is within the text and begins after the last one."""
    if not 0 <= span.start < span.end <= len(text):
        raise DataError(
            f"span {_in_words(span)} is not within the text, which has {len(text)} characters"
        )
    if span.start < last.end:
        raise DataError(f"spans {_in_words(last)} and {_in_words(span)} overlap")


def characters_of(spans: Iterable[Span], words: Sequence[tuple[int, int]]) -> list[Span]:
    """Return spans of words as spans of characters, from the first word to the last."""
    of_characters = []
    for span in spans:
        first, _ = words[span.start]
        _, end = words[span.end - 1]
        of_characters.append(Span(first, end, span.type))
    return of_characters


def _in_words(span: Span) -> str:
    return f"{span.start}–{span.end} ({span.type})"
