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
    """One class: its rows, both models' scores, and the rows in which only one model finds it.

    ``lost``: rows of this class to which only the reference gives it. ``won``: rows to which only
    the candidate gives it.
    """

    label: str
    rows: int
    candidate: Scores
    reference: Scores
    lost: int
    won: int


def compare(measurements: Measurements, reference: str) -> list[ClassResult]:
    """Return every class in label order; empty if the task has no labels.

    Raises KeyError if a model was not measured.
    """
    task, truth = measurements.scored_by, measurements.truth
    labels = measurements.labels
    first, second = (
        task.marks(measurements.table(model), truth, len(labels))
        for model in (CANDIDATE, reference)
    )
    if first is None or second is None:
        return []
    (ours, true), (theirs, _) = first, second
    rows = true.sum(axis=0)
    lost, won = (true & theirs & ~ours).sum(axis=0), (true & ours & ~theirs).sum(axis=0)
    candidate, other = _scores(ours, true), _scores(theirs, true)
    return [
        ClassResult(label, int(rows[at]), candidate[at], other[at], int(lost[at]), int(won[at]))
        for at, label in enumerate(labels)
    ]


def _scores(given: NDArray[np.bool_], true: NDArray[np.bool_]) -> list[Scores]:
    counts = ((given & true).sum(axis=0), given.sum(axis=0), true.sum(axis=0))
    return [
        Scores(_share(hit, predicted), _share(hit, actual), _share(2 * hit, predicted + actual))
        for hit, predicted, actual in zip(*(each.tolist() for each in counts), strict=True)
    ]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
