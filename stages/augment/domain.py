"""Which texts read most like those of a domain.

Moore & Lewis 2010, "Intelligent selection of language model training data" (ACL): the difference of
a text's cross-entropy by word in a model of the domain and in one of the texts to choose from. The
models here count words; see ``bag_of_words``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from rarefy.pipeline.data.bag_of_words import cut
from rarefy.pipeline.data.split import normalized


def ranked(text: Callable[[int], str], places: Sequence[int], domain: Iterable[str]) -> list[int]:
    """Return the places of texts to choose from, those nearest to the domain's first.

    Args:
        text: returns the text at a place.
        places: the places to choose from.
        domain: the texts of the domain.
    """
    inside, general = _counts(domain), _counts(map(text, places))
    vocabulary = len(inside | general)
    inside_total, general_total = inside.total() + vocabulary, general.total() + vocabulary

    def difference(place: int) -> float:
        logs = []
        for word in _words(text(place)):
            in_general = math.log((general[word] + 1) / general_total)
            in_domain = math.log((inside[word] + 1) / inside_total)
            logs.append(in_general - in_domain)
        return sum(logs) / max(1, len(logs))

    return sorted(places, key=difference)


def _counts(texts: Iterable[str]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for text in texts:
        counted.update(_words(text))
    return counted


def _words(text: str) -> Iterator[str]:
    """Yield the words of a text, those that are only symbols included."""
    for run in normalized(text).split():
        yield from cut(run)
