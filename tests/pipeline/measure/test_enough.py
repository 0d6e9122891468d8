"""How many processes call a model fast enough."""

import numpy as np
import pytest

from rarefy.pipeline.measure import stopping


@pytest.mark.parametrize(
    ("processes", "room", "slowest", "is_enough"),
    [
        (5, 1.3, 1.0, True),
        (5, 1.1, 1.0, False),
        (19, 1.01, 1.0, False),
        (20, 1.01, 1.0, True),
        (20, 1.01, 1.09, True),  # no more than chance makes of it
        (30, 1.2, 1.25, False),  # a slow process, which misses the limit
        (30, 1.3, 1.25, True),
    ],
)
def test_near_the_limit_it_takes_more_processes_none_of_them_slow(
    processes, room, slowest, is_enough
):
    assert stopping.is_enough(processes, room, slowest) is is_enough


def test_a_process_in_five_that_is_slow_is_met_with_the_promised_probability():
    assert 0.8**stopping.FEWEST <= 0.0125 < 0.8 ** (stopping.FEWEST - 1)


def test_the_slowest_process_is_compared_with_the_middle_one():
    calls = [[1.0, 1.0, 9.0], [1.0, 1.2, 1.1], [2.2, 2.2, 2.2]]
    assert stopping.slowest(calls, [[1.0] * 3] * 3) == pytest.approx(2.0)
    assert stopping.slowest(calls, [[1.0] * 3, [1.1] * 3, [2.2] * 3]) == pytest.approx(1.0)


def test_of_many_processes_one_may_be_slow():
    calls = [[1.0] * 3] * 39 + [[1.11] * 3]
    left_out = stopping.spared(len(calls))
    slowest = stopping.slowest(calls, [[1.0] * 3] * 40, left_out)
    assert stopping.is_enough(40, 1.04, slowest)
    slowest = stopping.slowest([*calls[1:], calls[-1]], [[1.0] * 3] * 40, left_out)
    assert not stopping.is_enough(40, 1.04, slowest)
    many = stopping.SPARING
    assert stopping.spared(many - 1) == 0
    assert 0.8**many + many * 0.2 * 0.8 ** (many - 1) <= 0.0125


def test_rows_that_take_longer_make_no_process_slow():
    """Each of ten processes calls twenty rows of its own."""
    generator = np.random.default_rng(0)
    rows = generator.lognormal(0, 0.5, (10, 20))
    assert stopping.slowest((2 * rows).tolist(), rows.tolist()) == pytest.approx(1.0)
