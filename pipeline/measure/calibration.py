"""Whether a model is as often right as it is sure.

Guo et al. 2017, "On calibration of modern neural networks" (arXiv 1706.04599).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.measure.measurements import Measurements

if TYPE_CHECKING:
    from pipeline.terms.interval import Interval


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

    from pipeline.stage.formulas import BINS

    probabilities = np.asarray(measurements.models[model].probabilities)
    if not np.isfinite(probabilities).all():
        return None
    confidence = probabilities.max(axis=1)
    right = measurements.right(model)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return Calibration(
        ece=measurements.score("ece", model),
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
