"""When a p99 under load passes, fails, or is inconclusive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rarefy.pipeline.measure.load import queueing
from rarefy.pipeline.measure.load.queueing import arrivals
from rarefy.pipeline.verdict.load import judge
from tests.pipeline.measure.queues import served


def test_a_pass_needs_the_whole_interval_and_a_steady_queue():
    sent = arrivals(100, 10, seed=0)
    quick = served(sent, [0.001] * len(sent))
    assert judge(quick, 20)[0] == "pass"
    assert judge(quick, 0.5)[0] == "fail"
    p99 = quick.percentile(99)
    word, reason = judge(quick, (p99.value + p99.high) / 2)
    assert (word, "interval includes the limit" in reason) == ("inconclusive", True)
    assert reason.endswith("; a longer run (--seconds) narrows it")
    full = served(sent, [0.011] * len(sent))
    crowded = full.percentile(99)
    word, reason = judge(full, (crowded.value + crowded.high) / 2)
    assert word == "inconclusive"
    assert "narrows it" not in reason  # it would only be slower
    word, reason = judge(full, 1e6)
    assert (word, "a longer run would give longer times" in reason) == ("inconclusive", True)
    assert judge(full, 20)[0] == "fail"


def test_what_the_machine_was_late_by_is_no_fault_of_the_bundle():
    sent = arrivals(100, 10, seed=0)
    quick = served(sent, [0.001] * len(sent))
    late = replace(quick, response=[ms + 50 for ms in quick.response])
    word, reason = judge(late, 20)
    assert (word, "the machine delayed 100% of the responses" in reason) == ("inconclusive", True)


def test_a_queue_that_leaves_requests_unanswered_fails_and_never_passes():
    """Of 1000 requests 20 are answered: too few for a p99 of answers, but the others waited."""
    sent = arrivals(100, 10, seed=0)
    found = served(sent, [1.0] * len(sent), until=20)
    word, reason = judge(found, 20)
    assert (word, "p99 is at least" in reason) == ("fail", True)
    assert judge(found, 1e6)[0] == "inconclusive"


def test_too_few_or_broken_answers_never_pass():
    sent = arrivals(2, 10, seed=0, kind="constant")
    few = served(sent, [0.001] * 20)
    assert judge(few, 1e6) == ("inconclusive", "20 requests are too few to estimate p99; send more")
    assert judge(replace(few, broken=3), 1e6) == (
        "fail",
        "3 of 20 predictions are NaN or infinite",
    )


@pytest.mark.slow
def test_a_short_run_of_a_busy_queue_does_not_pass_what_an_endless_one_misses():
    """Of such runs, four in ten passed a limit 5 % below the true p99 by their own spread."""
    draw, busy, service = np.random.default_rng(3), 0.8, 5.0

    def lengths(count):
        return service * np.exp(draw.normal(0, 0.385, count)) / np.exp(0.385**2 / 2)

    rate = busy * 1e3 / service
    sent = np.cumsum(draw.exponential(1e3 / rate, 400_000))
    endless = lengths(len(sent))
    true = np.percentile(queueing._waited(sent, endless, 1) + endless, 99)
    words, held = [], 0
    for seed in range(12):
        moments = arrivals(rate, 10, seed)
        found = served(moments, (lengths(len(moments)) / 1e3).tolist())
        interval = found.percentile(99)
        held += interval.low <= true <= interval.high
        words.append(judge(found, 0.95 * true)[0])
    assert held >= 10
    assert words.count("pass") <= 1
