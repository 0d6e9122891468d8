"""New texts out of a data set's own: clauses, spans, splices and noise.

All are cut and joined at whitespace, so a text that is words joined by spaces stays one.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Sequence

_ENGLISH = """
although and as because but despite except if instead nor or since so than
that then though unless until when where whereas whether which while who without yet
"""
CONJUNCTIONS = frozenset(_ENGLISH.split())
"""English words before which a clause may begin; other languages are cut at punctuation only."""
SHORTEST = 2
"""Words of the shortest clause or span."""
LONGEST = 14
"""Words of the longest span."""
DROPPED = 0.1
"""Share of the words that noise leaves out."""
_END = re.compile(r"[,;:.!?…、。，！？；：।،؟)\]]$|^[–—-]+$")
_EDGES = " \t\n,;:–—-，；：،"
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]"
)
"""Characters of scripts without spaces between words: Thai, Lao, Burmese, Khmer, Kana, Han."""


def units(text: str) -> tuple[list[str], str]:
    """Return what a text is cut into, and what joins it again: words and a space.

    A text without spaces between words, as in Chinese, is cut into its characters.
    """
    return (list(text.strip()), "") if unspaced(text) else (text.split(), " ")


def unspaced(text: str) -> bool:
    """Return whether most letters of a text are of scripts without spaces between words."""
    return 2 * len(_UNSPACED.findall(text)) > sum(map(str.isalpha, text))


def clauses(text: str) -> list[str]:
    """Return the clauses of a text, cut after punctuation and before conjunctions.

    Those of one word are left out, and the whole text if nothing cuts it.
    """
    found: list[list[str]] = [[]]
    words, space = units(text)
    for word in words:
        if found[-1] and word.lower() in CONJUNCTIONS:
            found.append([])
        found[-1].append(word)
        if _END.search(word):
            found.append([])
    parts = [_trimmed(words, space) for words in found if len(words) >= SHORTEST]
    return [part for part in parts if part and part != text]


def spans(text: str, count: int, draw: random.Random) -> list[str]:
    """Return ``count`` random runs of 2 to 14 words, shorter than the text; [] if it has only two.

    Socher et al. 2013 ("Recursive deep models for semantic compositionality over a sentiment
    treebank") have phrases labelled by hand; here the teacher labels them.
    """
    words, space = units(text)
    longest = min(LONGEST, len(words) - 1)
    if longest < SHORTEST:
        return []
    found = []
    for _ in range(count):
        length = draw.randint(SHORTEST, longest)
        start = draw.randint(0, len(words) - length)
        found.append(_trimmed(words[start : start + length], space))
    return [part for part in found if part]


def splice(first: str, second: str, draw: random.Random) -> str:
    """Return a clause of one text followed by a clause of another."""
    return " ".join(draw.choice(clauses(text) or [text]) for text in (first, second))


def noised(text: str, draw: random.Random) -> str:
    """Return a text with a tenth of its words left out, and one pair of neighbours swapped."""
    words, space = units(text)
    words = [word for word in words if draw.random() >= DROPPED]
    if len(words) < SHORTEST:
        return text
    at = draw.randrange(len(words) - 1)
    words[at], words[at + 1] = words[at + 1], words[at]
    return space.join(words)


def normalized(text: str) -> str:
    """Return a text by which equal ones are found.

    Case, punctuation, spaces and the form of characters (Unicode's NFKC) do not count.
    """
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_PLAIN)
    return " ".join(plain.split()) or text.strip()


class _Plain(dict[int, str]):
    """Character -> itself, or a space if it is no letter, mark, digit or symbol."""

    def __missing__(self, code: int) -> str:
        kind = unicodedata.category(chr(code))
        beside = kind[0] in "PZC" or kind == "Sk"  # a grave accent is used as a quotation mark
        self[code] = "" if kind == "Cf" else " " if beside else chr(code)
        return self[code]


_PLAIN = _Plain()


def _trimmed(words: Sequence[str], space: str) -> str:
    return space.join(words).strip(_EDGES)
