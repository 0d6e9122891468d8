"""What is said before a run of latencies that a session cannot tell apart."""

import numpy as np
import pytest

from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.verdict import power
from rarefy.pipeline.verdict.between_sessions import Spread, Timed
from tests.pipeline.verdict.measured import calls_of


def regression(metric="latency_p50", limit="5 %"):
    return Budget(metric=metric, max_regression=limit, against="finetune")


def test_only_narrow_margins_and_tails_are_spoken_of():
    budgets = [
        regression(),
        regression(limit="2 %"),
        regression("latency_p95"),
        Budget(metric="latency_p95", max="5 ms"),
        Budget(metric="latency_p50", min_speedup=3, against="finetune"),
        Budget(metric="accuracy", max_regression="1 %", against="finetune"),
    ]
    narrow, tail = power.time_notes(budgets, 5)
    assert narrow.startswith("latency_p50 max_regression against finetune: one session cannot ")
    assert "2%" in narrow
    assert narrow.endswith("only a larger margin helps")
    assert "with 20 processes, a slow-down of " in tail
    assert "assuming that it varies by 3.0% between processes" in tail


def test_the_last_run_tells_how_much_processes_differ(measurements):
    timed = measurements.latency["cpu"]
    generator = np.random.default_rng(0)
    ours, theirs = calls_of(5.0, 9), calls_of(5.1, 9)
    timed.samples = {
        "candidate": [(np.array(c) * generator.lognormal(0, 0.05)).tolist() for c in ours],
        "finetune": theirs,
    }
    (note,) = power.time_notes([regression("latency_p95")], 5, measurements)
    deviation = float(note.split("in the last run by ")[1].split("%")[0]) / 100
    assert deviation == pytest.approx(0.05, rel=0.5)


def test_sessions_that_differ_more_than_the_margin_are_said():
    spread = {Timed("latency_p50", "cpu", "warm"): Spread(0.03, 6, 8)}
    (note,) = power.time_notes([regression()], 5, None, spread)
    assert "sessions on this machine differ by 7.6% over 8 sessions, more than the 5" in note
    quiet = {Timed("latency_p50", "cpu", "warm"): Spread(0.003, 6, 8)}
    assert power.time_notes([regression()], 5, None, quiet) == []


def test_the_slow_down_that_is_named_is_seen_in_four_of_five_sessions():
    """By a simulation of ratios that vary between processes as assumed."""
    (note,) = power.time_notes([regression("latency_p95")], 5)
    slower = 1 + float(note.split("a slow-down of ")[1].split("%")[0]) / 100
    seen = 0
    for trial in range(200):
        generator = np.random.default_rng(trial)
        ratios = slower * generator.lognormal(0, 0.03 / 1.2533, 20)  # the error of a median
        samples = [[ratio] * 3 for ratio in ratios.tolist()]
        ratio = intervals.percentile_ratio(samples, [[1.0] * 3] * 20, 50, looks=4)
        seen += ratio.low > 1.05
    assert 0.6 < seen / 200 < 0.95
