"""Budgets on rows a second: absolute, against a reference, and on a machine that changes."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rarefy.pipeline.measure.measurements import Measurements
from rarefy.pipeline.measure.rows_per_second import Throughput
from rarefy.pipeline.terms.budget import Budget, find_problems
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.pipeline.verdict.history import plain_numbers
from rarefy.pipeline.verdict.judge import judge, stopping_rule, throughput_rule
from tests.pipeline.verdict.measured import CPU, calls_of, one


@pytest.fixture
def counted(measurements: Measurements) -> Measurements:
    """Return measurements with a candidate of about 1,000 rows/s and a reference of 250."""
    samples = {"candidate": calls_of(1.0, 5, 400), "finetune": calls_of(4.0, 5, 400)}
    mean = sum(map(sum, samples["candidate"])) / 2000
    for name, processes in samples.items():
        samples[name] = [[time / mean for time in blocks] for blocks in processes]
    measurements.throughput["cpu"] = Throughput(
        samples=samples,
        cpu=samples,
        batch={"candidate": 8, "finetune": 32},
        workers=2,
        threads=1,
        provider="cpu",
        rows=200,
    )
    return measurements


@pytest.mark.parametrize(
    ("budget", "outcome"),
    [
        ({"min": 800}, "pass"),
        ({"min": 1000}, "inconclusive"),
        ({"min": 1200}, "fail"),
        ({"min_speedup": 3.9, "against": "finetune"}, "pass"),
        ({"min_speedup": 4, "against": "finetune"}, "inconclusive"),
        ({"min_speedup": 4.1, "against": "finetune"}, "fail"),
        ({"max_regression": "5 %", "against": "finetune"}, "pass"),
        ({"max_regression": "5 %", "against": "quantize"}, "pass"),
    ],
)
def test_a_budget_passes_or_fails_by_its_whole_interval(counted, budget, outcome):
    found = one(counted, metric="throughput", **budget)
    assert found.outcome == outcome, found.reason
    assert found.low < found.value < found.high
    assert found.target == "cpu"
    assert "2 workers × 1 thread, batches of 8" in found.reason


def test_a_slower_candidate_has_lost_a_share_of_the_rows(counted):
    timed = counted.throughput["cpu"]
    slow = {name: timed.samples[name] for name in ("finetune", "candidate")}
    timed.samples = dict(zip(slow, reversed(slow.values()), strict=True))
    found = one(counted, metric="throughput", max_regression="5 %", against="finetune")
    assert found.outcome == "fail"
    assert found.value == pytest.approx(0.75, abs=0.01)
    assert "worse than finetune's" in found.reason


def test_what_was_not_measured_fails(counted):
    missing = one(counted, metric="throughput", min=1, target="other")
    assert missing.outcome == "fail"
    assert "the throughput of candidate on other was not measured" in missing.reason
    del counted.throughput["cpu"].samples["finetune"]
    missing = one(counted, metric="throughput", min_speedup=2, against="finetune")
    assert "the throughput of finetune on cpu was not measured" in missing.reason


def test_a_machine_that_changed_supports_no_verdict_on_throughput_alone(counted):
    counted.throughput["cpu"].throttled = "calls took 2 times as long"
    budgets = [Budget(metric="throughput", min=800)]
    verdict = judge(budgets, CPU, counted)
    assert verdict.outcome == "inconclusive"
    assert verdict.evidence[0].startswith("cpu: calls took 2 times as long")
    assert verdict.budgets[0].outcome == "inconclusive"
    latency = judge([Budget(metric="latency_p50", max="1 s")], CPU, counted)
    assert (latency.outcome, latency.evidence) == ("pass", [])


def test_each_session_stops_by_its_own_budgets(counted):
    budgets = [
        Budget(metric="latency_p50", max="1 s"),
        Budget(metric="throughput", min=1000),
        Budget(metric="throughput", min=1, target="two"),
    ]
    assert stopping_rule(budgets, Target(), counted)(counted.latency["cpu"])
    is_decided = throughput_rule(budgets, Target(), counted)
    assert not is_decided(counted.throughput["cpu"])
    assert throughput_rule(budgets[2:], Target(name="two"), counted) is not None
    assert throughput_rule(budgets[:1], Target(), counted) is None
    assert stopping_rule(budgets[1:], Target(), counted) is None


def test_the_history_keeps_rows_a_second(counted):
    by_metric = {number.metric: number for number in plain_numbers(counted)}
    number = by_metric["throughput"]
    assert number.target == "cpu"
    assert number.low < number.value < number.high
    counted.throughput["cpu"].throttled = "calls took 2 times as long"
    by_metric = {number.metric: number for number in plain_numbers(counted)}
    assert by_metric["throughput"].low is None


@pytest.mark.parametrize(
    ("budget", "problem"),
    [
        ({"max": 500}, "'max' does not apply to this metric; use max_regression, min, min_speedup"),
        ({"min": 0}, "is met by every model; set a minimum above 0"),
        ({"max_drop": 0.1, "against": "production"}, "'max_drop' does not apply"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(budget, problem):
    [found] = find_problems([Budget(metric="throughput", **budget)])
    assert problem in found


@pytest.mark.parametrize(
    ("budget", "problem"),
    [
        ({"min": "5 ms"}, "'5 ms' is a time; throughput takes a number of rows a second"),
        ({"min": 500, "against": "production"}, "'min' is an absolute bound"),
        ({"min": 500, "caches": "cold"}, "'caches' applies to latencies, not to throughput"),
    ],
)
def test_a_limit_of_another_kind_is_refused(budget, problem):
    with pytest.raises(ValidationError, match=problem):
        Budget(metric="throughput", **budget)


@pytest.mark.parametrize("field", ["workers", "batch_size"])
def test_a_target_has_a_worker_and_a_row_at_least(field):
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Target(**{field: 0})
