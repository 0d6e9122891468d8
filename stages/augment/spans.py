"""New texts out of a data set's own: clauses, spans, splices and noise.

All are cut and joined at whitespace, so a text that is words joined by spaces stays one. Only texts
of a script without spaces, as in Chinese, are cut between characters.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Sequence

from rarefy.pipeline.data.bag_of_words import UNSPACED

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
RUN = 6
"""Characters for each space from which a text of such a script was not split into words."""
SENTENCE_ENDS = ".!?。！？।؟۔"
_END = re.compile(rf"[{SENTENCE_ENDS}…,;:、，；：،؛॥)\]]$|^[–—-]+$|\s$")
_EDGES = " \t\n\u3000,;:–—-、，；：،؛"


def unspaced(text: str) -> bool:
    """Return whether most letters of a text are of a script without spaces between words."""
    if text.isascii():
        return False
    letters = [character for character in text if character.isalpha()]
    return 2 * sum(UNSPACED.match(each) is not None for each in letters) > len(letters)


def units(text: str) -> tuple[list[str], str]:
    """Return what a text is cut into, and what joins it again: words and a space.

    A text of a script without spaces is cut into characters, which nothing joins, unless somebody
    put spaces between its words. Marks stay with their character, and English words whole.
    """
    words = text.split()
    if not unspaced(text) or (len(words) > 1 and len(text) <= RUN * len(words)):
        return words, " "
    found: list[str] = []
    for character in text.strip():
        if found and _joins(found[-1][-1], character):
            found[-1] += character
        else:
            found.append(character)
    return found, ""


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


def _joins(last: str, character: str) -> bool:
    """Return whether a character is a mark, or goes on with a word in ASCII."""
    word = (last + character).isascii() and not (last.isspace() or character.isspace())
    return word or unicodedata.category(character)[0] == "M"


def _trimmed(words: Sequence[str], space: str) -> str:
    return space.join(words).strip(_EDGES)
