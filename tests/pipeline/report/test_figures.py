"""The figures: well-formed, stand-alone where they must be, and true to the numbers."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from pipeline.measure.calibration import Bin
from pipeline.report.figures import ledger_svg, svg
from pipeline.report.figures.reliability import reliability
from tests.pipeline.report.factory import ledger, report_data

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_ledger_stands_alone_and_names_every_model(theme: str) -> None:
    text = ledger_svg(report_data(), theme)
    assert "var(" not in text
    assert re.findall(r"https?://[^\"']+", text) == ["http://www.w3.org/2000/svg"]
    root = ElementTree.fromstring(text)
    words = [node.text for node in root.iter(f"{SVG}text")]
    for row in ledger():
        assert (row.id in words) == (row.kind != "report")
    assert "15.4 MB" in words or "15.4\u00a0MB" in words


def test_bars_are_as_long_as_the_numbers_say() -> None:
    root = ElementTree.fromstring(ledger_svg(report_data(verdict=None, measurements=None)))
    bars = [float(node.get("width")) for node in root.iter(f"{SVG}rect") if node.get("rx") == "1.5"]
    sizes = [row.size for row in ledger() if row.kind != "report"]
    assert [bar / bars[0] for bar in bars] == pytest.approx([s / sizes[0] for s in sizes], abs=1e-3)


def test_a_reliability_curve_lies_on_the_diagonal_where_the_model_does() -> None:
    bins = tuple(Bin(rows=50, confidence=c, accuracy=c) for c in (0.5, 0.75, 1.0))
    few = Bin(rows=9, confidence=0.9, accuracy=0.1)
    text = reliability({"candidate": (*bins, few)}, svg.PAGE, 350, "r")
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


def test_names_are_escaped() -> None:
    row = ledger()[0].model_copy(update={"id": "<b>&"})
    ElementTree.fromstring(ledger_svg(report_data(ledger=[row])))
