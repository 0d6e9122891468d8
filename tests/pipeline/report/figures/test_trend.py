"""The trend figure connects only comparable readings."""

from __future__ import annotations

import re

from rarefy.pipeline.report.figures.chart import Chart
from rarefy.pipeline.report.figures.trend import Column, draw_outcome
from rarefy.pipeline.report.figures.trend import trend as chart
from rarefy.pipeline.terms.outcomes import Outcome
from rarefy.pipeline.verdict.history_numbers import Key
from tests.pipeline.report.figures.readings import LATENCY, columns, past, reading


def strokes(figure: str, colour: str) -> list[str]:
    """Return the connected strokes of the figure's paths of one colour."""
    paths = re.findall(rf'<path d="([^"]*)" fill="none" stroke="var\(--{colour}\)"', figure)
    return [stroke for path in paths for stroke in re.findall(r"M[^M]*", path)]


def test_numbers_of_one_machine_are_joined_and_of_two_are_not() -> None:
    one = chart(LATENCY, columns(1.0, 1.1, 1.2), "x")
    assert [stroke.count("L") for stroke in strokes(one, "accent")] == [2]
    two = chart(LATENCY, columns(1.0, 1.1, 1.2, 1.3, machines="AABB"), "x")
    assert [stroke.count("L") for stroke in strokes(two, "accent")] == [1, 1]
    assert "machine B from here on" in two


def test_numbers_against_a_tag_that_moved_are_not_joined() -> None:
    against = Key("latency_p50", "cpu", "max_regression", "production")
    verdicts = [
        Column(past(baselines={"production": base}), "A", reading(value))
        for base, value in (("old", -0.3), ("old", -0.3), ("new", 0.0))
    ]
    assert [stroke.count("L") for stroke in strokes(chart(against, verdicts, "x"), "accent")] == [
        1,
        0,
    ]
    assert [stroke.count("L") for stroke in strokes(chart(LATENCY, verdicts, "x"), "accent")] == [2]


def test_a_size_is_the_same_number_on_every_machine() -> None:
    figure = chart(Key("size"), columns(1e6, 2e6, machines="AB"), "x")
    assert [stroke.count("L") for stroke in strokes(figure, "accent")] == [1]


def test_a_missing_number_breaks_the_line_and_says_so() -> None:
    verdicts = columns(1.0, None, 1.2)
    verdicts[1] = Column(past(), "A", reading(None, outcome="fail", reasons=("it answered NaN",)))
    figure = chart(LATENCY, verdicts, "x")
    assert [stroke.count("L") for stroke in strokes(figure, "accent")] == [0, 0]
    assert "no value · fail · it answered NaN" in figure


def test_outcomes_differ_in_shape_and_not_only_in_colour() -> None:
    def drawn(outcome: Outcome | None) -> str:
        icon = Chart("", 18, 16)
        draw_outcome(icon, 9, 8, outcome)
        return icon.svg()

    outcomes: list[Outcome] = ["pass", "fail", "inconclusive"]
    shapes = {re.sub(r'(fill|stroke)="[^"]*"', "", drawn(outcome)) for outcome in outcomes}
    assert len(shapes) == 3
    assert drawn(None) != drawn("pass")


def test_a_budget_that_moved_is_drawn_as_a_step_and_a_far_one_is_said() -> None:
    limits = (1.3, 1.3, 1.2)
    verdicts = [
        Column(past(), "A", reading(1.25, outcome="pass", limits={"max": limit}))
        for limit in limits
    ]
    (line,) = strokes(chart(LATENCY, verdicts, "x"), "limit")
    assert len(set(re.findall(r"[ V](\d+\.\d)", line))) == 2
    far = [Column(past(), "A", reading(1.25, outcome="pass", limits={"max": 90.0}))]
    figure = chart(LATENCY, far, "x")
    assert strokes(figure, "limit") == []
    assert "at most 90\u00a0ms ↑" in figure
