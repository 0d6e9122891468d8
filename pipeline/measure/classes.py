"""Precision, recall and F1 per class for candidate and reference, and the rows that flipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.measure.measurements import CANDIDATE, Measurements

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Scores:
    """One model on one class. A score is None if its denominator is zero."""

    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class ClassResult:
    """One class: its rows, both models' scores, and the rows that only one model has right.

    ``lost``: rows of this class that only the reference has right. ``won``: rows that only the
    candidate has right.
    """

    label: str
    rows: int
    candidate: Scores
    reference: Scores
    lost: int
    won: int


def compare(measurements: Measurements, reference: str) -> list[ClassResult]:
    """Return every class in label order. Raises KeyError if a model was not measured."""
    import numpy as np

    from pipeline.stage import formulas

    truth = np.asarray(measurements.truth)
    count = len(measurements.labels)
    tables = [measurements.table(model) for model in (CANDIDATE, reference)]
    ours, theirs = map(formulas.answers, tables)
    rows = np.bincount(truth, minlength=count)
    lost = np.bincount(truth[(theirs == truth) & (ours != truth)], minlength=count)
    won = np.bincount(truth[(ours == truth) & (theirs != truth)], minlength=count)
    candidate, other = _scores(ours, truth, count), _scores(theirs, truth, count)
    return [
        ClassResult(label, int(rows[at]), candidate[at], other[at], int(lost[at]), int(won[at]))
        for at, label in enumerate(measurements.labels)
    ]


def _scores(answers: NDArray[np.int64], truth: NDArray[np.int64], count: int) -> list[Scores]:
    import numpy as np

    hits = np.bincount(truth[answers == truth], minlength=count).tolist()
    given = np.bincount(answers[answers >= 0], minlength=count).tolist()
    rows = np.bincount(truth, minlength=count).tolist()
    return [
        Scores(_share(hit, predicted), _share(hit, actual), _share(2 * hit, predicted + actual))
        for hit, predicted, actual in zip(hits, given, rows, strict=True)
    ]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
