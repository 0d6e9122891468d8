"""Accuracy by slice of the eval split: shows losses that the average hides.

A slicing assigns every row to a part: by its length, its target, or its value in a column. The
p-values of McNemar's tests are corrected over all parts together (Holm 1979, "A simple sequentially
rejective multiple test procedure"); uncorrected, one of twenty slices would look worse by chance.
If rows are in groups, ``scores.chance`` and ``scores.difference`` take that into account.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rarefy.pipeline.measure.measurements import CANDIDATE, Measurements
from rarefy.pipeline.terms.budget import OTHER, frequent

if TYPE_CHECKING:
    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.tasks import Task
    from rarefy.pipeline.terms.interval import Interval

LENGTH = "length"
MOST_PARTS = 20
QUANTILES = (0.25, 0.5, 0.75)
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class SliceResult:
    """One part of a slicing: both models' accuracies on its rows, and how they differ.

    ``difference`` is candidate − reference (``scores.difference``). ``p`` is ``scores.chance``,
    ``corrected_p`` after Holm's correction over all parts of all slicings.
    ``worse``: the candidate is significantly worse (corrected p below 0.05).
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


def of(split: Split, task: Task, tokens: Sequence[int]) -> dict[str, list[str]]:
    """Return slicing -> each row's part: by length, by target, and by the split's columns.

    ``tokens``: each row's length in the model's tokens. A column with the name of another slicing
    becomes ``column …``. If blocks of several rows are compared, such as queries, each is in the
    part of the row that stands for it, and there is none by length.
    """
    slicings = {}
    if task.scorer.blocks(split) is None:
        slicings[LENGTH] = by_length(tokens)
    by_target = task.presenter.target_slices(split)
    if by_target is not None:
        slicings[task.presenter.slice_name] = by_target
    for column, values in columns(split, task).items():
        name = f"column {column}" if column in slicings else column
        slicings[name] = by_value(values)
    return slicings


def columns(split: Split, task: Task) -> dict[str, list[str]]:
    """Return column of ``data.slices`` -> each block's value."""
    blocks = task.scorer.blocks(split)
    if blocks is None:
        return dict(split.columns)
    by_block = {}
    for column, values in split.columns.items():
        by_block[column] = [values[row] for row in blocks]
    return by_block


def token_counts(bundle: Path, split: Split, provider: str) -> list[int]:
    """Return the number of tokens of each row, using the bundle's own tokenizer.

    Of two texts that the bundle reads one by one, as embeddings are, those of the longer.
    """
    from rarefy.pipeline.measure.row_lengths import token_lengths
    from rarefy.pipeline.model.runtime.bundle_model import BundleModel

    model = BundleModel(bundle, provider=provider)
    rows = [(split.texts, split.pairs)]
    if split.pairs is not None and not model.signature.get("pairs"):
        rows = [(split.texts, None), (split.pairs, None)]
    counts = [token_lengths(model, *columns) for columns in rows]
    return [max(lengths) for lengths in zip(*counts, strict=True)]


def by_length(tokens: Sequence[int]) -> list[str]:
    """Return each row's length quartile, such as ``4–9 tokens``; equal lengths stay together."""
    import numpy as np

    lengths = np.asarray(tokens)
    quartiles = np.quantile(lengths, QUANTILES, method="inverted_cdf")
    edges = np.unique(quartiles)
    bucket = np.searchsorted(edges, lengths)
    names = {}
    for number in np.unique(bucket).tolist():
        inside = lengths[bucket == number]
        low, high = int(inside.min()), int(inside.max())
        span = f"{low}" if low == high else f"{low}–{high}"
        unit = "token" if high == 1 else "tokens"
        names[number] = f"{span} {unit}"
    return [names[number] for number in bucket.tolist()]


def by_value(values: Sequence[str]) -> list[str]:
    """Return each row's value; rare values and all but the 19 most frequent become ``(rare)``."""
    counts = Counter(values)
    parts = frequent(counts)
    if len(counts) > MOST_PARTS:
        order = sorted(counts, key=lambda value: (-counts[value], value))
        parts &= set(order[: MOST_PARTS - 1])
    return [value if value in parts else OTHER for value in values]


def compare(measurements: Measurements, reference: str) -> list[SliceResult]:
    """Return every part of every slicing, largest loss of accuracy first.

    A slicing with a single part is skipped. Raises KeyError if a model was not measured.
    """
    import numpy as np

    from rarefy.pipeline.measure.statistics import scores

    ours, theirs = measurements.right(CANDIDATE), measurements.right(reference)
    groups = np.asarray(measurements.groups, dtype=int)
    vacuous = measurements.is_truth(reference)
    results = []
    for slicing, values in measurements.slices.items():
        parts = list(dict.fromkeys(values))
        if len(parts) < 2:
            continue
        for part in parts:
            rows = np.asarray(values) == part
            first, second = ours[rows], theirs[rows]
            group = groups[rows].tolist() if len(groups) else []
            p = 1.0
            if not vacuous:
                p = scores.chance(first, second, group)
            result = SliceResult(
                slicing=slicing,
                part=part,
                rows=len(first),
                candidate=scores.share(first, groups=group),
                reference=scores.share(second, groups=group),
                difference=scores.difference(first, second, group),
                p=p,
                corrected_p=p,
                worse=False,
            )
            results.append(result)
    corrected = holm([result.p for result in results])
    for number, p in enumerate(corrected):
        worse = results[number].difference.value < 0 and p < SIGNIFICANT
        results[number] = replace(results[number], corrected_p=p, worse=worse)
    return sorted(results, key=lambda result: (result.difference.value, result.p))


def holm(chances: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple testing by Holm's method.

    The smallest p-value is multiplied by their number n, the next by n − 1, and so on; corrected
    values never decrease. Rejecting those below 0.05 is wrong in at most 5% of families.
    """
    corrected = [0.0] * len(chances)
    least = 0.0
    order = sorted(range(len(chances)), key=chances.__getitem__)
    for rank, place in enumerate(order):
        product = (len(chances) - rank) * chances[place]
        least = max(least, min(1.0, product))
        corrected[place] = least
    return corrected
