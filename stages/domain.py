"""Which texts read most like those of a domain.

Moore & Lewis 2010, "Intelligent selection of language model training data" (ACL): the difference of
a text's cross-entropy by word in a model of the domain and in one of the texts to choose from. The
models here count words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from stages.spans import normalized, unspaced


def nearest(texts: Sequence[str], domain: Iterable[str]) -> list[int]:
    """Return the places of the texts, those nearest to the domain's first."""
    own, general = _counts(domain), _counts(texts)
    known = len(own | general)
    own_total, general_total = own.total() + known, general.total() + known

    def difference(text: str) -> float:
        words = _words(text)
        logs = (
            math.log((general[word] + 1) / general_total) - math.log((own[word] + 1) / own_total)
            for word in words
        )
        return sum(logs) / max(1, len(words))

    return sorted(range(len(texts)), key=lambda place: difference(texts[place]))


def _counts(texts: Iterable[str]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for text in texts:
        counted.update(_words(text))
    return counted


def _words(text: str) -> list[str]:
    """Return a text's words; pairs of characters where no spaces are between words."""
    words = normalized(text).split()
    if not unspaced(text):
        return words
    return [word[at : at + 2] for word in words for at in range(max(1, len(word) - 1))]
