"""Calibration: the bins add up to the error, which is small for a calibrated model."""

import numpy as np
import pytest

from pipeline.measure import classes
from pipeline.measure.measurements import Measurements, ModelMeasurement


def _measured(sure, right):
    """The truth is always 0; the answer is 0 where ``right``, with the given confidence."""
    sides = np.stack([np.where(right, sure, 1 - sure), np.where(right, 1 - sure, sure)], axis=1)
    model = ModelMeasurement(digest="d", size=1, answers=sides.tolist())
    return Measurements(
        machine={},
        task="text-classification",
        labels=["a", "b"],
        truth=[0] * len(sure),
        models={"candidate": model},
        latency={},
    )


def _simulated(gap, rows=20_000):
    generator = np.random.default_rng(0)
    sure = generator.uniform(0.55, 0.999, rows)
    return _measured(sure, generator.random(rows) < sure - gap)


def test_the_error_is_the_sum_of_its_bins():
    found = classes.calibration(_simulated(0.05, 500), "candidate")
    gaps = sum(b.rows * abs(b.accuracy - b.confidence) for b in found.bins)
    assert gaps / sum(b.rows for b in found.bins) == pytest.approx(found.ece.value)
    assert [b.confidence for b in found.bins] == sorted(b.confidence for b in found.bins)


@pytest.mark.parametrize("gap", [0.0, 0.05])
def test_a_model_too_sure_by_a_known_gap_has_that_error(gap):
    found = classes.calibration(_simulated(gap), "candidate")
    assert found.confidence - found.accuracy == pytest.approx(gap, abs=0.01)
    assert found.ece.value == pytest.approx(gap, abs=0.012)
    assert found.ece.low <= found.ece.value <= found.ece.high


def test_answers_that_are_no_numbers_have_no_calibration():
    measured = _measured(np.array([0.9, 0.8]), np.array([True, True]))
    measured.models["candidate"].answers[0] = [float("nan"), 0.1]
    assert classes.calibration(measured, "candidate") is None
