"""Compare two models on the same rows."""

from __future__ import annotations

import pytest

from pipeline.measure.measurements import Measurements, ModelMeasurement
from pipeline.release import comparison

pytestmark = pytest.mark.usefixtures("quiet_machine")


def test_gains_are_rows_that_only_the_candidate_has_right() -> None:
    right, wrong = [0.9, 0.1], [0.1, 0.9]
    answers = {
        "candidate": [right, right, right, wrong],
        "baseline": [wrong, wrong, right, right],
    }
    models = {
        side: ModelMeasurement(digest="", size=1, answers=rows) for side, rows in answers.items()
    }
    measured = Measurements(
        machine={},
        task="text-classification",
        labels=["a", "b"],
        truth=[0] * 4,
        models=models,
        latency={},
    )
    found = comparison.agreement(measured)
    assert (found["gains"], found["losses"], found["flips"]) == (2, 1, 3)
    assert found["difference"]["value"] == pytest.approx(0.25)
    assert found["candidate"]["value"] == 0.75
    assert found["baseline"]["value"] == 0.5
