"""The ledger's figure: well-formed, standing alone, and true to the numbers."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from pipeline.report.figures import ledger_svg
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


def test_names_are_escaped() -> None:
    row = ledger()[0].model_copy(update={"id": "<b>&"})
    ElementTree.fromstring(ledger_svg(report_data(ledger=[row])))
