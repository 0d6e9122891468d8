"""A verdict takes its worst outcome."""

from __future__ import annotations

from rarefy.pipeline.measure.measurements import Measurements
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.verdict.judge import judge
from rarefy.pipeline.verdict.verdict import Verdict
from tests.pipeline.verdict.measured import CPU


def test_measurements_and_verdict_survive_json_with_nan(measurements):
    measurements.models["candidate"].answers[3] = [float("nan"), float("inf")]
    text = measurements.model_dump_json(by_alias=True)
    again = Measurements.model_validate_json(text)
    verdict = judge([Budget(metric="accuracy", min=0.1)], CPU, again)
    assert Verdict.model_validate_json(verdict.model_dump_json(by_alias=True)) == verdict
    assert verdict.outcome == "fail"
