"""Rows a second, their ratio and their cost, from blocks of several processes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rarefy.pipeline.measure.rows_per_second import Throughput


def counted(samples, **more):
    values = {
        "samples": samples,
        "cpu": samples,
        "batch": dict.fromkeys(samples, 8),
        "workers": 2,
        "threads": 1,
        "provider": "cpu",
        "rows": 100,
    }
    return Throughput(**values | more)


def test_a_rate_is_all_rows_over_all_time():
    """Blocks of the same rows: 1 ms and 3 ms a row are 500 rows a second, not 667."""
    rate = counted({"candidate": [[1.0, 3.0], [3.0, 1.0]]}).rate("candidate")
    assert rate == (500.0, 500.0, 500.0)


def test_an_interval_is_between_processes_and_wider_with_more_looks():
    fast_and_slow = {"candidate": [[1.0, 1.0], [1.1, 1.1], [1.2, 1.2]]}
    once, often = (counted(fast_and_slow, looks=looks).rate("candidate") for looks in (1, 4))
    assert often.low < once.low < once.value < once.high < often.high


def test_rows_of_other_lengths_widen_a_rate_but_no_ratio():
    equal = {"candidate": [[1.0, 1.0], [1.0, 1.0]], "teacher": [[2.0, 2.0], [2.0, 2.0]]}
    timed = counted(equal, spread=0.02)
    rate = timed.rate("candidate")
    reach = 0.02 * 12.71  # Student's quantile at 97.5 % for one degree of freedom
    assert math.log(rate.high / rate.value) == pytest.approx(reach, rel=1e-3)
    assert timed.ratio("candidate", "teacher") == (2.0, 2.0, 2.0)


def test_a_slow_process_is_no_part_of_a_ratio():
    timed = counted({"candidate": [[1.0, 1.0], [2.0, 2.0]], "teacher": [[4.0, 4.0], [8.0, 8.0]]})
    assert timed.ratio("candidate", "teacher") == (4.0, 4.0, 4.0)
    assert timed.ratio("teacher", "candidate").value == 0.25


def test_intervals_cover_the_true_ratio():
    draw = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        of_process = draw.lognormal(0, 0.02, (2, 5, 1)) * draw.lognormal(0, 0.05, (2, 5, 10))
        rows = draw.lognormal(0, 0.4, (5, 10))
        ours, theirs = (rows * of_process).tolist()
        ratio = counted({"candidate": ours, "teacher": theirs}).ratio("candidate", "teacher")
        covered += ratio.low <= 1 <= ratio.high
    assert 0.92 <= covered / 400 <= 0.98


def test_cost_and_corpus_follow_from_the_rate():
    timed = counted({"candidate": [[2.0], [2.0]]}, cpu={"candidate": [[3.0], [3.0]]}, corpus=1000)
    assert timed.cost("candidate") == pytest.approx((3.0, 3.0, 3.0))
    assert timed.corpus_seconds("candidate") == pytest.approx((2.0, 2.0, 2.0))
    assert counted({"candidate": [[2.0], [2.0]]}).corpus_seconds("candidate") is None


def test_a_whole_list_has_a_median_if_enough_were_timed():
    few = counted({"candidate": [[1.0]]}, lists={"candidate": [[10.0, 12.0]]})
    assert few.list_time("candidate") is None
    many = counted({"candidate": [[1.0]] * 2}, lists={"candidate": [[10.0, 12.0, 11.0]] * 2})
    assert many.list_time("candidate").value == 11.0
    assert many.list_time("teacher") is None


def test_a_setting_names_workers_threads_and_batch():
    timed = counted({"candidate": [[1.0]], "teacher": [[1.0]]})
    timed.batch["teacher"] = 1
    assert timed.setting("candidate") == "2 workers × 1 thread, batches of 8"
    assert timed.setting("teacher") == "2 workers × 1 thread, single rows"
