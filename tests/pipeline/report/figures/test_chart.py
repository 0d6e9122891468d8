"""Scales, ticks and axes, checked against their definition; texts are escaped."""

from __future__ import annotations

import itertools
import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.figures import chart
from pipeline.report.figures.chart import Axis, Box, Chart, Plot, Scale
from pipeline.terms.interval import Interval
from tests.pipeline.report.figures.shapes import shapes, tooltips

positive = st.floats(1e-3, 1e6)


@given(st.floats(-1e6, 1e6), positive)
def test_a_linear_scale_meets_its_ends_and_middle(low: float, extent: float) -> None:
    scale = Scale(low, low + extent, 10, 110)
    assert scale(low) == pytest.approx(10)
    assert scale(low + extent) == pytest.approx(110)
    assert scale(low + extent / 2) == pytest.approx(60, abs=1e-3)


def test_on_a_logarithmic_scale_equal_factors_are_equal_steps() -> None:
    scale = Scale(1, 1000, 0, 300, log=True)
    assert [scale(value) for value in (1, 10, 100, 1000)] == pytest.approx([0, 100, 200, 300])
    assert Scale(5, 5, 0, 100)(5) == 50


@given(st.floats(-1e5, 1e5), positive)
def test_ticks_are_round_evenly_apart_and_inside(low: float, extent: float) -> None:
    values = chart.ticks(low, low + extent)
    slack = 1e-6 * max(abs(low), extent)
    assert all(low - slack <= value <= low + extent + slack for value in values)
    assert len(values) <= 6
    steps = {round((b - a) / extent, 6) for a, b in itertools.pairwise(values)}
    assert len(steps) <= 2  # equal, but for rounding
    for step in steps:
        mantissa = step * extent / 10 ** math.floor(math.log10(step * extent) + 1e-9)
        assert any(mantissa == pytest.approx(m, rel=1e-3) for m in (1, 2, 5, 10))


@given(positive, st.floats(1.01, 1e4))
def test_logarithmic_ticks_are_inside(low: float, factor: float) -> None:
    high = low * factor
    values = chart.log_ticks(low, high)
    assert values == sorted(values)
    assert all(low * 0.999 <= value <= high * 1.001 for value in values)


def test_a_text_is_escaped_and_cut_to_its_room() -> None:
    picture = Chart("a", 9, 9, "<title>")
    picture.text(0, 0, '<b>&"')
    with picture.tooltip("<i>"):
        picture.descriptions.append("<p>")
    (text,) = shapes(picture.svg(), "text")
    assert text.text == '<b>&"'
    assert tooltips(picture.svg()) == ["<i>"]
    assert chart.fit("a long name", 1000) == "a long name"
    assert len(chart.fit("a long name " * 9, 70)) == 10


def test_a_small_value_is_seen() -> None:
    picture = Chart("a", 9, 9)
    picture.bar((0, 0), 0.01, 5, "red")
    (bar,) = shapes(picture.svg(), "rect")
    assert bar.get("width") == "1"


@pytest.mark.parametrize("candidate", [True, False])
def test_the_candidate_differs_in_shape(candidate: bool) -> None:
    picture = Chart("a", 9, 9)
    picture.dot(5, 5, candidate)
    assert len(shapes(picture.svg(), "path")) == candidate
    assert len(shapes(picture.svg(), "circle")) == (not candidate)


def test_numbers_stand_at_their_rules_and_ticks() -> None:
    up = Axis("up", 0, 1, "{:g}".format, ticks=(0.1, 0.5))
    across = Axis("across", 1, 4, "{:g}".format, log=True, ticks=(2,), inset=(10, 20))
    plot = Plot("x", 500, 300, "", x=across, y=up)
    words = {node.text: node for node in shapes(plot.svg(), "text")}
    assert list(words) == ["up", "0.1", "0.5", "2", "across"]
    left, top, right, bottom = plot.area
    assert float(words["2"].get("x", 0)) == (left + 10 + right - 20) / 2
    rules = [node for node in shapes(plot.svg(), "line") if node.get("y1") == node.get("y2")]
    heights = [bottom - share * (bottom - top) for share in (0.1, 0.5, 0)]
    assert [float(rule.get("y1", 0)) for rule in rules] == pytest.approx(heights, abs=0.1)
    assert {float(rule.get("x2", 0)) for rule in rules} == {right}


def test_a_point_is_drawn_with_both_intervals_and_named_where_nothing_is() -> None:
    axis = Axis("", 0, 10, "{:g}".format)
    plot = Plot("x", 500, 300, "", x=axis, y=axis)
    mark = plot.point(Interval(5, 4, 6), Interval(5, 3, 7), candidate=False)
    x, y = plot.place(5, 5)
    beside = Box(x + 8, y - 9, x + 60, y + 9)
    plot.name_point((x, y), "name", chart.PLAIN, [mark, beside])
    (name,) = (node for node in shapes(plot.svg(), "text") if node.text == "name")
    assert name.get("text-anchor") == "end"
    (whisker,) = (node.get("d", "") for node in shapes(plot.svg(), "path"))
    (x1, low), (x2, high) = (
        map(float, end.split()) for end in whisker[1:].split("M")[0].split("L")
    )
    assert (x1, x2) == pytest.approx((x, x), abs=0.1)
    assert (low, high) == pytest.approx((plot.up(3), plot.up(7)), abs=0.1)


def test_a_picture_that_stands_alone_has_its_own_colours_and_a_margin() -> None:
    picture = Chart("a", 100, 50, "title")
    picture.line((0, 0), (9, 9), chart.ACCENT)
    text = chart.stand_alone(picture.svg(), {"surface": "white", "accent": "teal"}, 16)
    root = ElementTree.fromstring(text)
    assert root.get("viewBox") == "0 0 132 82"
    ground, inside = root
    assert ground.get("fill") == "white"
    assert (inside.get("x"), inside.get("y")) == ("16", "16")
    assert shapes(text, "line", stroke="teal")
