"""Spans of characters to spans of words, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from rarefy.pipeline.tasks.token_classification.entities import Span
from rarefy.pipeline.terms.errors import DataError


def words_of(found: Iterable[Span], words: Sequence[tuple[int, int]], text: str) -> list[Span]:
    """Return spans of characters as spans of words, sorted.

    ``words``: the first character of each word and the one after its last. A span that begins or
    ends within a word takes the whole word.

    Raises DataError if a span is empty or outside the text, holds no word, or shares a character
    or a word with another one.
    """
    starts, ends = (
        (np.array(side, dtype=int) for side in zip(*words, strict=True))
        if words
        else (
            np.zeros(0, dtype=int),
            np.zeros(0, dtype=int),
        )
    )
    taken: list[Span] = []
    last = Span(0, 0, "")
    for span in sorted(found):
        if not 0 <= span.start < span.end <= len(text):
            raise DataError(
                f"span {_told(span)} is not within the text, which has {len(text)} characters"
            )
        if span.start < last.end:
            raise DataError(f"spans {_told(last)} and {_told(span)} overlap")
        first, end = np.searchsorted(ends, span.start, "right"), np.searchsorted(starts, span.end)
        if first >= end:
            raise DataError(f"span {_told(span)} holds no word: {text[span.start : span.end]!r}")
        if taken and first < taken[-1].end:
            word = text[starts[first] : ends[first]]
            raise DataError(f"spans {_told(last)} and {_told(span)} share the word {word!r}")
        taken.append(Span(int(first), int(end), span.type))
        last = span
    return taken


def characters_of(found: Iterable[Span], words: Sequence[tuple[int, int]]) -> list[Span]:
    """Return spans of words as spans of characters, from the first word to the last."""
    return [Span(words[start][0], words[end - 1][1], kind) for start, end, kind in found]


def _told(span: Span) -> str:
    return f"{span.start}–{span.end} ({span.type})"
