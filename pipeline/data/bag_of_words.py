"""The words of a text where their counts matter: to BM25, to a linear model, to choosing texts.

A word is a run of letters, digits and underscores, with the marks and joiners that belong to them
(Unicode Standard Annex 29, rule WB4): without its vowel signs, a word in Hindi would be consonants.
In scripts without spaces between words, the pairs of neighbouring characters count as words, as in
Lucene's CJKAnalyzer; words of other scripts among them stay whole.
"""

from __future__ import annotations

import itertools
import unicodedata

import regex

UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Line_Break=SA}]")
"""A character of a script without spaces between words. The class SA is that of Thai, Lao, Khmer
and Burmese, in which it takes a dictionary to break a line (Unicode Standard Annex 14)."""
_RUN = r"[\p{L}\p{N}_][\p{L}\p{N}_\p{M}\u200c\u200d]*"
_WORD = regex.compile(_RUN)
_TOKEN = regex.compile(rf"{_RUN}|\S")
_CHARACTER = regex.compile(r"\X")


def words(text: str, *, symbols: bool = False) -> list[str]:
    """Return the words of a text, in lower case.

    ``symbols``: every other character, apart from space, counts as a word too. A letter with a mark
    is the same in both ways that Unicode has to write it (NFC).
    """
    pattern = _TOKEN if symbols else _WORD
    lower = text.lower()
    if text.isascii():
        ascii_words: list[str] = pattern.findall(lower)
        return ascii_words
    parts: list[str] = []
    for run in pattern.findall(unicodedata.normalize("NFC", lower)):
        parts += cut(run)
    return parts


def cut(run: str) -> list[str]:
    """Return the words of a text that has no spaces: itself, unless its script has none."""
    if not UNSPACED.search(run):
        return [run]
    parts: list[str] = []
    characters = _CHARACTER.findall(run)
    for unspaced, group in itertools.groupby(characters, _is_unspaced):
        part = list(group)
        if unspaced and len(part) > 1:
            parts += map("".join, itertools.pairwise(part))
        else:
            parts.append("".join(part))
    return parts


def _is_unspaced(character: str) -> bool:
    return UNSPACED.match(character) is not None
