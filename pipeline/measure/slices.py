"""Accuracy by slice of the eval split: where a model that keeps its average loses its rows.

A slicing gives every row a part: its length, its label, its value of a column. Over all parts
together McNemar's tests are corrected for their number (Holm 1979, "A simple sequentially
rejective multiple test procedure"): without it one of twenty slices would look worse by chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.measure.measurements import CANDIDATE, Measurements

if TYPE_CHECKING:
    from pipeline.stage.data import Split
    from pipeline.terms.interval import Interval

LENGTH, LABEL = "length", "label"
OTHER = "other"
FEWEST_ROWS = 20
MOST_PARTS = 20
QUANTILES = (0.25, 0.5, 0.75)
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class SliceResult:
    """One part of a slicing: both models' accuracies on its rows, and how they differ.

    ``difference`` is candidate − reference with Tango's interval; ``p`` is McNemar's exact test,
    ``corrected_p`` after Holm over all parts of all slicings. ``worse``: the candidate is, and
    that with a corrected p below 0.05.
    """

    slicing: str
    part: str
    rows: int
    candidate: Interval
    reference: Interval
    difference: Interval
    p: float
    corrected_p: float
    worse: bool


def of(split: Split, labels: Sequence[str], tokens: Sequence[int]) -> dict[str, list[str]]:
    """Return slicing -> each row's part: by length, by true label, and by the split's columns.

    ``tokens``: each row's length as the model reads it. A column of the name of another slicing
    is called ``column …``.
    """
    slicings = {LENGTH: by_length(tokens)}
    if split.labels is not None:
        slicings[LABEL] = [labels[label] for label in split.labels]
    for column, values in split.columns.items():
        slicings[f"column {column}" if column in slicings else column] = by_value(values)
    return slicings


def token_counts(bundle: Path, split: Split, provider: str) -> list[int]:
    """Return how many tokens of each row a bundle's own tokenizer gives its model."""
    from pipeline.model.runtime import BundleModel

    feeds = BundleModel(bundle, provider=provider).encode(split.texts, split.pairs)
    return [next(iter(feed.values())).shape[1] for feed in feeds]


def by_length(tokens: Sequence[int]) -> list[str]:
    """Return each row's quartile of the lengths, as ``4–9 tokens``; equal lengths stay together."""
    import numpy as np

    lengths = np.asarray(tokens)
    edges = np.unique(np.quantile(lengths, QUANTILES, method="inverted_cdf"))
    bucket = np.searchsorted(edges, lengths)
    names = {}
    for number in np.unique(bucket).tolist():
        inside = lengths[bucket == number]
        low, high = int(inside.min()), int(inside.max())
        span = f"{low}" if low == high else f"{low}–{high}"
        names[number] = f"{span} token{'' if high == 1 else 's'}"
    return [names[number] for number in bucket.tolist()]


def by_value(values: Sequence[str]) -> list[str]:
    """Return each row's value; the rare ones, and all but the 19 most frequent, are ``other``."""
    counts = Counter(values)
    kept = {value for value, count in counts.items() if count >= FEWEST_ROWS}
    if len(counts) > MOST_PARTS:
        order = sorted(counts, key=lambda value: (-counts[value], value))
        kept &= set(order[: MOST_PARTS - 1])
    return [value if value in kept else OTHER for value in values]


def compare(measurements: Measurements, reference: str) -> list[SliceResult]:
    """Return every part of every slicing, those where the candidate loses most rows' share first.

    A slicing that leaves the split whole is left out. Raises KeyError for a model that was not
    measured.
    """
    import numpy as np

    from pipeline.measure import scores, statistics

    ours, theirs = measurements.right(CANDIDATE), measurements.right(reference)
    parts = [
        (slicing, part, np.asarray(values) == part)
        for slicing, values in measurements.slices.items()
        if len(set(values)) > 1
        for part in dict.fromkeys(values)
    ]
    tables = [scores.flips(ours[rows], theirs[rows]) for _, _, rows in parts]
    chances = [statistics.mcnemar(gains, losses) for gains, losses in tables]
    results = []
    for (slicing, part, inside), (gains, losses), p, corrected in zip(
        parts, tables, chances, holm(chances), strict=True
    ):
        rows = int(inside.sum())
        results.append(
            SliceResult(
                slicing=slicing,
                part=part,
                rows=rows,
                candidate=statistics.wilson(int((ours & inside).sum()), rows),
                reference=statistics.wilson(int((theirs & inside).sum()), rows),
                difference=statistics.paired_difference(gains, losses, rows),
                p=p,
                corrected_p=corrected,
                worse=losses > gains and corrected < SIGNIFICANT,
            )
        )
    return sorted(results, key=lambda result: (result.difference.value, result.p))


def holm(chances: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number: below 0.05 one is wrong in 5 % of families.

    The smallest is taken times their number, the next times one less, and so on, never falling.
    """
    corrected = [0.0] * len(chances)
    least = 0.0
    order = sorted(range(len(chances)), key=lambda at: chances[at])
    for rank, at in enumerate(order):
        least = max(least, min(1.0, (len(chances) - rank) * chances[at]))
        corrected[at] = least
    return corrected
