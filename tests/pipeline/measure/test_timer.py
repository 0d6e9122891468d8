"""A timer counts only what it is asked to time."""

from __future__ import annotations

from pipeline.measure.timer import Timer


def test_calls_before_the_timed_ones_are_left_out():
    now = [0]

    def call():
        now[0] += 1_000_000 * (len(calls) + 1)
        calls.append(now[0])

    calls: list[int] = []
    timer = Timer(wall=lambda: now[0], cpu=lambda: 0)
    assert timer.time_calls(call, count=3, lead=2) == [3.0, 4.0, 5.0]
    assert timer.seconds() == 15e-3
