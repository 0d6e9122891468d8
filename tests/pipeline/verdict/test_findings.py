"""Each form of a budget in each state, and the reason given for it."""

from __future__ import annotations

import pytest

from pipeline.measure.measurements import Measurements, ModelMeasurement
from pipeline.terms.budget import Budget
from pipeline.terms.vocabulary import Target
from pipeline.verdict.judge import judge


def cold_starts(candidate, teacher):
    models = {"candidate": candidate, "teacher": teacher}
    return Measurements(
        machine={},
        task="text-classification",
        labels=["a", "b"],
        truth=[0],
        models={
            name: ModelMeasurement(digest=name, size=1, cold_start=ms, probabilities=[[0.9, 0.1]])
            for name, ms in models.items()
        },
        latency={},
    )


FAST = [200.0, 204.0, 197.0, 310.0, 202.0, 199.0]
SLOW = [300.0, 309.0, 295.0, 470.0, 303.0, 299.0]


@pytest.mark.parametrize(
    ("budget", "outcome"),
    [
        ({"max": "400 ms"}, "pass"),
        ({"max": "250 ms"}, "inconclusive"),  # one start took longer
        ({"max": "190 ms"}, "fail"),
        ({"min_speedup": 1.4, "against": "teacher"}, "pass"),
        ({"min_speedup": 1.515, "against": "teacher"}, "inconclusive"),
        ({"min_speedup": 2, "against": "teacher"}, "fail"),
        ({"max_regression": "5 %", "against": "teacher"}, "pass"),
    ],
)
def test_budgets_on_the_cold_start(budget, outcome):
    asked = Budget(metric="cold_start", **budget)
    found = judge([asked], (Target(),), cold_starts(FAST, SLOW)).budgets[0]
    assert found.outcome == outcome, found.reason
    assert found.low < found.value < found.high


def test_a_slower_start_is_a_regression():
    asked = Budget(metric="cold_start", max_regression="10 %", against="teacher")
    found = judge([asked], (Target(),), cold_starts(SLOW, FAST)).budgets[0]
    assert found.outcome == "fail"
    assert found.value == pytest.approx(0.5, abs=0.03)
    assert "worse than teacher's" in found.reason


@pytest.mark.parametrize(
    ("ours", "theirs", "outcome", "reason"),
    [
        ([], SLOW, "fail", "cold start of candidate was not measured"),
        (FAST, [], "fail", "cold start of teacher was not measured"),
        (FAST[:5], SLOW[:5], "inconclusive", "start 6 times or more"),
        ([*FAST[:5], float("nan")], SLOW, "fail", "not a number"),
    ],
)
def test_too_little_or_nothing_measured_never_passes(ours, theirs, outcome, reason):
    asked = Budget(metric="cold_start", max_regression="5 %", against="teacher")
    found = judge([asked], (Target(),), cold_starts(ours, theirs)).budgets[0]
    assert found.outcome == outcome
    assert reason in found.reason
