"""Each class's scores and flips, and whether a model's confidence matches its accuracy.

Calibration is by Guo et al. 2017, "On calibration of modern neural networks" (arXiv 1706.04599).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rarefy.pipeline.measure.measurements import CANDIDATE, Measurements

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rarefy.pipeline.terms.interval import Interval


@dataclass(frozen=True)
class Scores:
    """One model on one class. A score is None if its denominator is zero.

    ``recall_1_fpr``: recall at 1% false positives, of classes that have a threshold of their own.
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


@dataclass(frozen=True)
class Bin:
    """The rows in one confidence bin, with their mean confidence and accuracy."""

    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """A model's expected calibration error (15 bins) and its non-empty bins by confidence.

    ``confidence`` and ``accuracy`` are means over all rows.
    """

    ece: Interval
    confidence: float
    accuracy: float
    bins: tuple[Bin, ...]


def compare(measurements: Measurements, reference: str) -> list[ClassResult]:
    """Return every class in label order; empty if the task has no labels.

    Raises KeyError if a model was not measured.
    """
    if measurements.unlabelled:  # a model's predictions are no labels
        return []
    task, truth = measurements.scored_by, measurements.truth
    tables = [measurements.table(CANDIDATE), measurements.table(reference)]
    table_of_labels = task.presenter.label_table(tables, truth, measurements.labels)
    if table_of_labels is None:
        return []
    true = table_of_labels.true
    ours, theirs = table_of_labels.predicted
    rows = true.sum(axis=0)
    lost = (true & theirs & ~ours).sum(axis=0)
    won = (true & ours & ~theirs).sum(axis=0)
    our_recalls, their_recalls = (task.presenter.recalls(table, truth) for table in tables)
    candidate = _scores(ours, true, our_recalls)
    other = _scores(theirs, true, their_recalls)
    results = []
    for number, label in enumerate(table_of_labels.names):
        result = ClassResult(
            label=label,
            rows=int(rows[number]),
            candidate=candidate[number],
            reference=other[number],
            lost=int(lost[number]),
            won=int(won[number]),
        )
        results.append(result)
    return results


def _scores(
    predicted: NDArray[np.bool_], true: NDArray[np.bool_], recalls: NDArray[np.float64] | None
) -> list[Scores]:
    """Return a model's scores on each class.

    Args:
        predicted: Whether the model gives a row a class, ``(rows, classes)``.
        true: Whether it has it, ``(rows, classes)``.
        recalls: At 1% false positives, ``(classes,)``; None if classes have no threshold.
    """
    hits = (predicted & true).sum(axis=0).tolist()
    predictions = predicted.sum(axis=0).tolist()
    actual = true.sum(axis=0).tolist()
    scores = []
    for number, hit in enumerate(hits):
        recall_1_fpr = None
        if recalls is not None and actual[number]:
            recall_1_fpr = float(recalls[number])
        predicted_rows, actual_rows = predictions[number], actual[number]
        precision = _share(hit, predicted_rows)
        recall = _share(hit, actual_rows)
        f1 = _share(2 * hit, predicted_rows + actual_rows)
        scores.append(Scores(precision, recall, f1, recall_1_fpr))
    return scores


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def calibration(measurements: Measurements, model: str) -> Calibration | None:
    """Return a measured model's calibration, None if an answer is NaN or infinite."""
    import numpy as np

    from rarefy.pipeline.tasks.shared.formulas import BINS

    probabilities = measurements.table(model)
    if not np.isfinite(probabilities).all():
        return None
    confidence = probabilities.max(axis=1)
    correct = measurements.right(model)
    numbers = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = []
    for number in np.unique(numbers):
        inside = numbers == number
        sure, accuracy = confidence[inside].mean(), correct[inside].mean()
        bins.append(Bin(int(inside.sum()), float(sure), float(accuracy)))
    return Calibration(
        ece=measurements.score("ece", model),
        confidence=float(confidence.mean()),
        accuracy=float(correct.mean()),
        bins=tuple(bins),
    )
