"""Whether the words of a text predict a column: then it is likely to be the label.

A naive Bayes classifier learns from one half of the rows and predicts the other (McCallum & Nigam
1998, "A comparison of event models for naive Bayes text classification"), both ways.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from rarefy.pipeline.data import bag_of_words

FEWEST = 40
"""With fewer rows, words predict by chance or not at all."""
SURE = 3.0
"""Standard deviations above chance from which words predict a column."""


class Row(NamedTuple):
    """The words of a text, and the value of the column."""

    words: frozenset[str]
    value: str


def deviations(texts: Sequence[Any], values: Sequence[Any]) -> float | None:
    """Return by how many standard deviations words predict a column better than chance.

    What is measured is the mean recall of the values, which is one by their number for a prediction
    that knows nothing. Returns None if there are fewer than ``FEWEST`` rows with both; of equal
    texts the first counts.

    Args:
        texts: The texts, one per row; anything but text is left out.
        values: The column's values, one per row.
    """
    rows = _rows(texts, values)
    if len(rows) < FEWEST:
        return None
    middle = len(rows) // 2
    first, second = rows[:middle], rows[middle:]
    predicted = _predict(second, first)
    predicted += _predict(first, second)
    return _above_chance(predicted, rows)


def _rows(texts: Sequence[Any], values: Sequence[Any]) -> list[Row]:
    """Return the rows that have a text and a value, without repetitions, in a mixed order."""
    rows: dict[str, Row] = {}
    for text, value in zip(texts, values, strict=True):
        if not isinstance(text, str) or value in (None, "") or text in rows:
            continue
        words = bag_of_words.words(text)
        rows[text] = Row(frozenset(words), str(value))
    order = sorted(rows, key=_place)
    return [rows[text] for text in order]


def _place(text: str) -> bytes:
    """Return what puts texts in an order that has nothing to do with that of the file."""
    data = text.encode(errors="replace")
    return blake2b(data, digest_size=8).digest()


def _predict(train: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    """Return the most likely value of each row, all values being equally likely before."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in train:
        counts[row.value].update(row.words)
    vocabulary = set().union(*counts.values())
    totals = {}
    for value, words in counts.items():
        totals[value] = words.total() + len(vocabulary)
    predicted = []
    for row in rows:
        likelihoods = {}
        for value, total in totals.items():
            likelihoods[value] = _log_likelihood(row, counts[value], total)
        best = max(likelihoods, key=likelihoods.__getitem__)
        predicted.append(best)
    return predicted


def _log_likelihood(row: Row, counts: Counter[str], total: int) -> float:
    """Return the logarithm of how likely a value has these words, each counted once more."""
    logarithms = []
    for word in row.words:
        share = (counts[word] + 1) / total
        logarithms.append(math.log(share))
    return math.fsum(logarithms)


def _above_chance(predicted: Sequence[str], rows: Sequence[Row]) -> float:
    """Return how far the mean recall is above that of predictions dealt out at random."""
    guesses = Counter(predicted)
    frequency: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for guess, row in zip(predicted, rows, strict=True):
        frequency[row.value] += 1
        hits[row.value] += guess == row.value
    above = variance = 0.0
    for value, count in frequency.items():
        chance = guesses[value] / len(rows)
        above += hits[value] / count
        above -= chance
        variance += chance * (1 - chance) / count
    if not variance:
        return 0.0
    return above / math.sqrt(variance)
