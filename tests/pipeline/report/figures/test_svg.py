"""Scales and ticks, checked against their definition; texts are escaped."""

from __future__ import annotations

import itertools
import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.figures import svg

positive = st.floats(1e-3, 1e6)


@given(st.floats(-1e6, 1e6), positive)
def test_a_linear_scale_meets_its_ends_and_middle(low: float, extent: float) -> None:
    scale = svg.linear(low, low + extent, 10, 110)
    assert scale(low) == pytest.approx(10)
    assert scale(low + extent) == pytest.approx(110)
    assert scale(low + extent / 2) == pytest.approx(60, abs=1e-3)


def test_on_a_logarithmic_scale_equal_factors_are_equal_steps() -> None:
    scale = svg.log(1, 1000, 0, 300)
    assert [scale(value) for value in (1, 10, 100, 1000)] == pytest.approx([0, 100, 200, 300])
    assert svg.linear(5, 5, 0, 100)(5) == 50


@given(st.floats(-1e5, 1e5), positive)
def test_ticks_are_round_evenly_apart_and_inside(low: float, extent: float) -> None:
    found = svg.ticks(low, low + extent)
    slack = 1e-6 * max(abs(low), extent)
    assert all(low - slack <= value <= low + extent + slack for value in found)
    assert len(found) <= 6
    steps = {round((b - a) / extent, 6) for a, b in itertools.pairwise(found)}
    assert len(steps) <= 2  # equal, but for rounding
    for step in steps:
        mantissa = step * extent / 10 ** math.floor(math.log10(step * extent) + 1e-9)
        assert any(mantissa == pytest.approx(m, rel=1e-3) for m in (1, 2, 5, 10))


@given(positive, st.floats(1.01, 1e4))
def test_logarithmic_ticks_are_inside(low: float, factor: float) -> None:
    high = low * factor
    assert all(low * 0.999 <= value <= high * 1.001 for value in svg.log_ticks(low, high))


def test_a_text_is_escaped_and_cut_to_its_room() -> None:
    element = ElementTree.fromstring(svg.text(0, 0, '<b>&"', "red"))
    assert element.text == '<b>&"'
    assert svg.fit("a long name", 1000, 12) == "a long name"
    assert len(svg.fit("a long name " * 9, 70, 12)) == 10


def test_a_small_value_is_seen() -> None:
    assert float(ElementTree.fromstring(svg.bar(0, 0, 0.01, 5, "red")).get("width", "0")) == 1


@pytest.mark.parametrize("candidate", [True, False])
def test_the_candidate_differs_in_shape(candidate: bool) -> None:
    tag = ElementTree.fromstring(svg.mark(5, 5, candidate)).tag
    assert tag == ("path" if candidate else "circle")
