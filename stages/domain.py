"""Which texts read most like those of a domain.

Moore & Lewis 2010, "Intelligent selection of language model training data" (ACL): the difference of
a text's cross-entropy by word in a model of the domain and in one of the texts to choose from. The
models here count words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from stages.spans import normalized


def nearest(texts: Sequence[str], domain: Iterable[str], count: int) -> list[int]:
    """Return the places of the ``count`` texts nearest to the domain's, in their order."""
    own, general = _counts(domain), _counts(texts)
    known = len(own | general)
    own_total, general_total = own.total() + known, general.total() + known

    def difference(text: str) -> float:
        words = normalized(text).split()
        logs = (
            math.log((general[word] + 1) / general_total) - math.log((own[word] + 1) / own_total)
            for word in words
        )
        return sum(logs) / max(1, len(words))

    ranked = sorted(range(len(texts)), key=lambda place: difference(texts[place]))
    return sorted(ranked[:count])


def _counts(texts: Iterable[str]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for text in texts:
        counted.update(normalized(text).split())
    return counted
