"""The ledger's figure: well-formed, and true to the numbers."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from rarefy.pipeline.report.figures.ledger import ledger as drawn
from rarefy.pipeline.verdict.verdict import BudgetResult, Verdict
from tests.pipeline.report.factory import ledger, measurements, report_data

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


@pytest.mark.parametrize(
    ("asked", "is_drawn"),
    [
        ({"form": "max", "limit": 3.0}, True),
        ({"form": "max", "limit": 3.0, "target": "cpu-all"}, False),
        ({"form": "max", "limit": 3.0, "caches": "cold"}, False),
        ({"metric": "latency_p95", "form": "max", "limit": 3.0}, False),
        ({"form": "min_speedup", "limit": 2, "against": "teacher"}, True),
        ({"metric": "latency_p95", "form": "min_speedup", "limit": 2, "against": "teacher"}, False),
    ],
)
def test_a_limit_is_drawn_where_it_holds(asked: dict[str, Any], is_drawn: bool) -> None:
    """A median's limit is drawn among the medians of its target with warm caches only."""
    common = {"metric": "latency_p50", "target": "cpu", "outcome": "pass", "reason": ""}
    verdict = Verdict(outcome="pass", budgets=[BudgetResult(**common | asked)])
    timed = measurements().model_copy(update={"latency": {"cpu": measurements().latency["cpu"]}})
    root = ElementTree.fromstring(drawn(report_data(verdict=verdict, measurements=timed), 960, "l"))
    assert ("budget" in [node.text for node in root.iter(f"{SVG}text")]) == is_drawn


def test_names_are_escaped() -> None:
    row = ledger()[0].model_copy(update={"id": "<b>&"})
    ElementTree.fromstring(drawn(report_data(ledger=[row]), 960, "l"))
