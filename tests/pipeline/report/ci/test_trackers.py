"""The JSON of Bencher and of github-action-benchmark, validated with their schemas."""

from __future__ import annotations

import json

import jsonschema

from pipeline.report.ci import openmetrics, trackers
from pipeline.report.ci.numbers import Measured, measured
from tests.pipeline.report.ci.budgets import samples
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

BENCHMARK_ACTION = {
    # From the action's documentation of its custom tools; an empty list it calls an error.
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "unit": {"type": "string", "minLength": 1},
            "value": {"type": "number"},
            "range": {"type": "string", "pattern": r"^± \d+(\.\d+)?(e-\d+)?$"},
            "extra": {"type": "string"},
        },
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
    },
}


def test_bencher_gets_measures_with_bounds(numbers: list[Measured]) -> None:
    benchmarks = json.loads(trackers.bencher(report_data(), numbers))
    jsonschema.validate(benchmarks, BENCHER)
    assert set(benchmarks) == {"movie-reviews", "movie-reviews on cpu", "movie-reviews on cpu-all"}
    p50 = benchmarks["movie-reviews on cpu"]["latency-p50-ms"]
    assert 0 < p50["lower_value"] < p50["value"] < p50["upper_value"]
    assert benchmarks["movie-reviews"]["size-bytes"] == {"value": 15_400_000}
    assert "latency-p99-ms" not in benchmarks["movie-reviews on cpu-all"], "100 calls carry no p99"


def test_the_action_gets_what_should_shrink_and_what_should_grow_apart(
    numbers: list[Measured],
) -> None:
    smaller, bigger = (
        json.loads(trackers.benchmark_action(report_data(), numbers, side))
        for side in (False, True)
    )
    for entries in (smaller, bigger):
        jsonschema.validate(entries, BENCHMARK_ACTION)
    metrics = [{entry["name"].split(" ")[1] for entry in entries} for entries in (smaller, bigger)]
    assert metrics[0] >= {"size", "memory", "parameters", "latency_p50"}
    assert metrics[1] == {"accuracy", "macro_f1", "agreement", "speedup"}
    accuracy = next(entry for entry in bigger if "accuracy" in entry["name"])
    assert (accuracy["value"], accuracy["unit"]) == (82.4, "%")


def test_without_a_validate_stage_the_ledger_fills_the_charts() -> None:
    data = report_data(verdict=None, measurements=None)
    numbers = measured(data)
    for bigger in (False, True):
        jsonschema.validate(
            json.loads(trackers.benchmark_action(data, numbers, bigger)), BENCHMARK_ACTION
        )
    assert samples(openmetrics.render(data, numbers))
