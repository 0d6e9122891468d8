"""The ledger's figure: well-formed, and true to the numbers."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from pipeline.report.figures.ledger import ledger as drawn
from tests.pipeline.report.factory import ledger, report_data

SVG = "{http://www.w3.org/2000/svg}"


def test_the_ledger_names_every_model() -> None:
    root = ElementTree.fromstring(drawn(report_data(), 960, "l"))
    words = [node.text for node in root.iter(f"{SVG}text")]
    for row in ledger():
        assert (row.id in words) == (row.kind != "report")
    assert "15.4\u00a0MB" in words


def test_bars_are_as_long_as_the_numbers_say() -> None:
    root = ElementTree.fromstring(drawn(report_data(verdict=None, measurements=None), 960, "l"))
    bars = [float(node.get("width")) for node in root.iter(f"{SVG}rect") if node.get("rx") == "1.5"]
    sizes = [row.size for row in ledger() if row.kind != "report"]
    assert [bar / bars[0] for bar in bars] == pytest.approx([s / sizes[0] for s in sizes], abs=1e-3)


def test_names_are_escaped() -> None:
    row = ledger()[0].model_copy(update={"id": "<b>&"})
    ElementTree.fromstring(drawn(report_data(ledger=[row]), 960, "l"))
