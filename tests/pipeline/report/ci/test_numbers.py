"""The numbers that all formats share: no format breaks if there are none."""

from __future__ import annotations

import json
import math

import pytest

from pipeline.report.ci import bencher, benchmark_action, openmetrics
from pipeline.report.ci.numbers import measured
from tests.pipeline.report.ci.budgets import samples
from tests.pipeline.report.factory import measurements, report_data


def test_a_candidate_that_answers_nan_breaks_no_format() -> None:
    broken = measurements().model_copy(deep=True)
    broken.models["candidate"].answers[0] = [math.nan, math.nan]
    broken.latency["cpu"].samples["candidate"][0][0] = math.nan
    data = report_data(measurements=broken)
    numbers = measured(data)
    timed = {n.target for n in numbers if n.model == "candidate" and n.metric == "latency_p50"}
    assert timed == {"cpu-all"}
    assert samples(openmetrics.render(data, numbers))
    for text in (bencher.render(data, numbers), benchmark_action.render(data, numbers, False)):
        json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
