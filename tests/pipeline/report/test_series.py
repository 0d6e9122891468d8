"""Describe a number over time in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rarefy.pipeline.report import series
from rarefy.pipeline.verdict.history_numbers import Key
from tests.pipeline.report.figures.readings import LATENCY, columns


@pytest.mark.parametrize(
    ("key", "values", "machines", "said"),
    [
        (LATENCY, (1.0, 1.1), "AA", "↑ 10.0%"),
        (LATENCY, (1.1, 1.0), "AA", "↓ 9.1%"),
        (LATENCY, (1.0, 1.01), "AA", None),
        (LATENCY, (1.0, 1.1), "AB", None),
        (LATENCY, (1.0,), "A", None),
        (Key("accuracy"), (0.80, 0.86), "AA", "↑ 6.00\u00a0points"),
    ],
)
def test_a_change_is_named_only_where_it_can_be(
    key: Key, values: tuple[float, ...], machines: str, said: str | None
) -> None:
    followed = [(c.past, c.reading) for c in columns(*values, machines=machines) if c.reading]
    found = series.change(key, followed)
    assert (found.text if found else None) == said
    if found:
        assert found.better is (("↓" in found.text) == (key is LATENCY))


@pytest.mark.parametrize("slowed", [0, 1])
def test_a_time_of_a_machine_that_was_slowed_down_has_no_arrow(slowed: int) -> None:
    followed = [(c.past, c.reading) for c in columns(1.0, 1.1, machines="AA") if c.reading]
    assert series.change(LATENCY, followed) is not None
    past, reading = followed[slowed]
    followed[slowed] = (replace(past, evidence=["throttled"]), reading)
    assert series.change(LATENCY, followed) is None
    assert series.change(Key("accuracy"), followed) is not None, "which no clock changes"


@pytest.mark.parametrize(("limits", "better"), [({"max": 1.0}, False), ({"min": 1.0}, True)])
def test_a_metric_of_one_s_own_is_better_on_the_side_of_its_limit(
    limits: dict[str, float], better: bool
) -> None:
    followed = [(c.past, c.reading) for c in columns(1.0, 1.1, machines="AA") if c.reading]
    followed = [(past, replace(reading, limits=limits)) for past, reading in followed]
    change = series.change(Key("costs:cost"), followed)
    assert change is not None
    assert change.better is better
