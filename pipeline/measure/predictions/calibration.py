"""Calibration: does a model's confidence match its accuracy?

Guo et al. 2017, "On calibration of modern neural networks" (arXiv 1706.04599).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rarefy.pipeline.measure.measurements import Measurements

if TYPE_CHECKING:
    from rarefy.pipeline.terms.interval import Interval


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


def of(measurements: Measurements, model: str) -> Calibration | None:
    """Return a measured model's calibration, None if an answer is NaN or infinite."""
    import numpy as np

    from rarefy.pipeline.tasks.shared.formulas import BINS

    probabilities = measurements.table(model)
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
