"""Bencher's JSON, validated with its schema."""

from __future__ import annotations

import json

import jsonschema

from pipeline.report.ci import bencher
from pipeline.report.ci.numbers import Measured
from tests.pipeline.report.factory import report_data

BENCHER = {
    # The schema that bencher.dev publishes with the format, and no more: a name for everything.
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "properties": {
                "value": {"type": "number"},
                "lower_value": {"type": "number"},
                "upper_value": {"type": "number"},
            },
            "required": ["value"],
        },
    },
}


def test_bencher_gets_measures_with_bounds(numbers: list[Measured]) -> None:
    found = json.loads(bencher.render(report_data(), numbers))
    jsonschema.validate(found, BENCHER)
    assert set(found) == {"movie-reviews", "movie-reviews on cpu", "movie-reviews on cpu-all"}
    p50 = found["movie-reviews on cpu"]["latency-p50-ms"]
    assert 0 < p50["lower_value"] < p50["value"] < p50["upper_value"]
    assert found["movie-reviews"]["size-bytes"] == {"value": 15_400_000}
    assert "latency-p99-ms" not in found["movie-reviews on cpu-all"], "100 calls carry no p99"
