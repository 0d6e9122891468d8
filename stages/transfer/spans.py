"""New texts out of a data set's own: clauses, spans and splices.

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
    unspaced_letters = sum(UNSPACED.match(letter) is not None for letter in letters)
    return 2 * unspaced_letters > len(letters)


def units(text: str) -> tuple[list[str], str]:
    """Return what a text is cut into, and what joins it again: words and a space.

    A text of a script without spaces is cut into characters, which nothing joins, unless somebody
    put spaces between its words. Marks stay with their character, and English words whole.
    """
    words = text.split()
    if not unspaced(text) or (len(words) > 1 and len(text) <= RUN * len(words)):
        return words, " "
    characters: list[str] = []
    for character in text.strip():
        if characters and _joins(characters[-1][-1], character):
            characters[-1] += character
        else:
            characters.append(character)
    return characters, ""


def clauses(text: str) -> list[str]:
    """Return the clauses of a text, cut after punctuation and before conjunctions.

    Those of one word are left out, and the whole text if nothing cuts it.
    """
    runs: list[list[str]] = [[]]
    words, space = units(text)
    for word in words:
        if runs[-1] and word.lower() in CONJUNCTIONS:
            runs.append([])
        runs[-1].append(word)
        if _END.search(word):
            runs.append([])
    parts = [_trimmed(run, space) for run in runs if len(run) >= SHORTEST]
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
    parts = []
    for _ in range(count):
        length = draw.randint(SHORTEST, longest)
        start = draw.randint(0, len(words) - length)
        run = words[start : start + length]
        parts.append(_trimmed(run, space))
    return [part for part in parts if part]


def splice(first: str, second: str, draw: random.Random) -> str:
    """Return a clause of one text followed by a clause of another."""
    start = draw.choice(clauses(first) or [first])
    end = draw.choice(clauses(second) or [second])
    return f"{start} {end}"


def _joins(last: str, character: str) -> bool:
    """Return whether a character is a mark, or goes on with a word in ASCII."""
    both = last + character
    if both.isascii() and not (last.isspace() or character.isspace()):
        return True
    category = unicodedata.category(character)
    return category[0] == "M"


def _trimmed(words: Sequence[str], space: str) -> str:
    return space.join(words).strip(_EDGES)
