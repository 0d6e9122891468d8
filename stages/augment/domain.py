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
from rarefy.pipeline.data.duplicates import normalized


def ranked(text: Callable[[int], str], places: Sequence[int], domain: Iterable[str]) -> list[int]:
    """Return the places of texts to choose from, those nearest to the domain's first.

    ``text(place)`` is one of them, read when it is asked for.
    """
    own, general = _counts(domain), _counts(map(text, places))
    known = len(own | general)
    own_total, general_total = own.total() + known, general.total() + known

    def difference(place: int) -> float:
        words = list(_words(text(place)))
        logs = (
            math.log((general[word] + 1) / general_total) - math.log((own[word] + 1) / own_total)
            for word in words
        )
        return sum(logs) / max(1, len(words))

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
