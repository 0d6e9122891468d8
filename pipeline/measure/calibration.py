"""Whether a model is as often right as it is sure.

Guo et al. 2017, "On calibration of modern neural networks" (arXiv 1706.04599).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.measure.measurements import Measurements

if TYPE_CHECKING:
    from pipeline.terms.interval import Interval

SEED = 0


@dataclass(frozen=True)
class Bin:
    """The rows whose answer is about as sure: mean confidence and share that is right."""

    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """A model's expected calibration error (15 bins), and the bins with rows, least sure first.

    ``confidence`` and ``accuracy``: their means over all rows.
    """

    ece: Interval
    confidence: float
    accuracy: float
    bins: tuple[Bin, ...]


def of(measurements: Measurements, model: str) -> Calibration | None:
    """Return a measured model's calibration; None where an answer is no number."""
    import numpy as np

    from pipeline.measure import scores, statistics

    probabilities = np.asarray(measurements.models[model].probabilities)
    if not np.isfinite(probabilities).all():
        return None
    truth = np.asarray(measurements.truth)
    confidence = probabilities.max(axis=1)
    right = statistics.answers(probabilities) == truth
    bins = np.minimum((confidence * statistics.BINS).astype(int), statistics.BINS - 1)
    return Calibration(
        ece=scores.alone("ece", probabilities, truth, SEED),
        confidence=float(confidence.mean()),
        accuracy=float(right.mean()),
        bins=tuple(
            Bin(
                rows=int((bins == number).sum()),
                confidence=float(confidence[bins == number].mean()),
                accuracy=float(right[bins == number].mean()),
            )
            for number in np.unique(bins)
        ),
    )
