"""New texts out of a data set's own: clauses, spans, splices and noise.

All are cut and joined at whitespace, so a text that is words joined by spaces stays one.
"""

from __future__ import annotations

import random
import re
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
UNSPACED = 30
"""Characters of a text without spaces from which it is no single word."""
_END = re.compile(r"[,;:.!?…、。，！？；：)\]]$|^[–—-]+$")
_EDGES = " \t\n,;:–—-，；："


def units(text: str) -> tuple[list[str], str]:
    """Return what a text is cut into, and what joins it again: words and a space.

    A long text without spaces, as in Chinese, is cut into its characters, which nothing joins.
    """
    words = text.split()
    return (list(words[0]), "") if len(words) == 1 and len(text) > UNSPACED else (words, " ")


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
    """Return a text by which equal ones are found: case, punctuation and spaces do not count."""
    return " ".join(re.findall(r"\w+", text.casefold())) or text.strip()


def _trimmed(words: Sequence[str], space: str) -> str:
    return space.join(words).strip(_EDGES)
