"""The store's time goes on, whatever a clock says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rarefy.pipeline.store.store import CLOCK, TICK, Store

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
AHEAD = NOW + timedelta(days=400)


def test_times_go_on_from_a_clock_that_was_ahead(tmp_path):
    store = Store(tmp_path)
    clocks = [NOW, AHEAD, NOW, NOW + timedelta(hours=1), AHEAD + timedelta(hours=1)]
    times = [store.now(lambda clock=clock: clock) for clock in clocks]
    assert times == sorted(set(times))
    assert times[0] == NOW
    assert times[2:4] == [AHEAD + TICK, AHEAD + 2 * TICK]
    assert times[4] == clocks[4], "the clock has caught up"
    assert Store(tmp_path).now(lambda: NOW) > times[4], "another process goes on"


END = '{"last": "9999-12-31T23:59:59.999999+00:00"}'  # no time is later


@pytest.mark.parametrize("content", ["", "{}", '{"last": 3}', '{"last": "noon"}', END])
def test_without_the_last_time_the_clock_decides(tmp_path, content):
    store = Store(tmp_path)
    store.now(lambda: AHEAD)
    (tmp_path / CLOCK).write_text(content)
    assert store.now(lambda: NOW) == NOW
