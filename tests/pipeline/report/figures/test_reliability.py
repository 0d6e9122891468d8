"""A reliability diagram that matches its bins."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from pipeline.measure.classes import Bin
from pipeline.report.figures.reliability import reliability

SVG = "{http://www.w3.org/2000/svg}"


def test_a_reliability_curve_lies_on_the_diagonal_where_the_model_does() -> None:
    bins = tuple(Bin(rows=50, confidence=c, accuracy=c) for c in (0.5, 0.75, 1.0))
    few = Bin(rows=9, confidence=0.9, accuracy=0.1)
    text = reliability({"candidate": (*bins, few)}, 350, "r")
    root = ElementTree.fromstring(text)
    curve = next(p for p in root.iter(f"{SVG}path") if p.get("stroke-width") == "2.5").get("d")
    places = [tuple(map(float, point.split())) for point in curve[1:].split("L")]
    assert len(places) == 3, "nine rows are too few to draw"
    line = next(
        e
        for e in root.iter(f"{SVG}line")
        if e.get("x1") != e.get("x2") and e.get("y1") != e.get("y2")
    )
    (x1, y1, x2, y2) = (float(line.get(name)) for name in ("x1", "y1", "x2", "y2"))
    for x, y in places:
        assert y == pytest.approx(y1 + (x - x1) / (x2 - x1) * (y2 - y1), abs=0.2)
