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
    """One model on one class. A score is None if its denominator is zero.

    ``recall_1_fpr``: recall at 1 % false positives, of classes that have a threshold of their own.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    recall_1_fpr: float | None = None


@dataclass(frozen=True)
class ClassResult:
    """One class: its rows, both models' scores, and the rows in which only one model finds it.

    Rows are what the task has ``marked``, e.g. entities. ``lost``: rows of this class to which only
    the reference gives it. ``won``: rows to which only the candidate gives it.
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
    if measurements.unlabelled:  # a model's predictions are no labels
        return []
    task, truth = measurements.scored_by, measurements.truth
    tables = [measurements.table(model) for model in (CANDIDATE, reference)]
    table_of_labels = task.presenter.label_table(tables, truth, measurements.labels)
    if table_of_labels is None:
        return []
    true, (ours, theirs) = table_of_labels.true, table_of_labels.predicted
    rows = true.sum(axis=0)
    lost, won = (true & theirs & ~ours).sum(axis=0), (true & ours & ~theirs).sum(axis=0)
    candidate, other = (
        _scores(given, true, task.presenter.recalls(table, truth))
        for given, table in zip((ours, theirs), tables, strict=True)
    )
    return [
        ClassResult(label, int(rows[at]), candidate[at], other[at], int(lost[at]), int(won[at]))
        for at, label in enumerate(table_of_labels.names)
    ]


def _scores(
    given: NDArray[np.bool_], true: NDArray[np.bool_], recalls: NDArray[np.float64] | None
) -> list[Scores]:
    counts = [part.sum(axis=0).tolist() for part in (given & true, given, true)]
    sharp = [None] * given.shape[1] if recalls is None else recalls.tolist()
    return [
        Scores(
            _share(hit, predicted),
            _share(hit, actual),
            _share(2 * hit, predicted + actual),
            recall if actual else None,
        )
        for hit, predicted, actual, recall in zip(*counts, sharp, strict=True)
    ]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
