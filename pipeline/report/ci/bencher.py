"""The candidate's numbers in Bencher's Metric Format (bencher.dev/docs/reference)."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pipeline.report.ci.numbers import Measured, of_candidate, rounded
from pipeline.verdict.record import ReportData

UNITS = {"ms": "-ms", "B": "-bytes"}


def render(data: ReportData, numbers: Sequence[Measured]) -> str:
    """Return benchmark -> measure -> value with its bounds, as JSON.

    A benchmark is the recipe, or the recipe on a target. A measure's name ends with its unit:
    ``latency-p50-ms``, ``size-bytes``; ``accuracy`` is a share.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for number in of_candidate(numbers):
        benchmark = data.name + (f" on {number.target}" if number.target else "")
        measure = number.metric.replace("_", "-") + UNITS.get(number.unit, "")
        values = {"value": rounded(number.value)}
        if number.low is not None and number.high is not None:
            values |= {"lower_value": rounded(number.low), "upper_value": rounded(number.high)}
        found.setdefault(benchmark, {})[measure] = values
    return json.dumps(found, indent=1, allow_nan=False) + "\n"
