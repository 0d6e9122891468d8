"""A budget's name and outcome on a CI page."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.ci import cases
from tests.pipeline.report.ci.budgets import budgets


def test_no_two_budgets_have_one_name_whatever_their_limits() -> None:
    found = cases.names([*budgets(), *budgets()])
    assert len(set(found)) == len(found) == 2 * len(budgets())
    stricter = [budget.model_copy(update={"limit": budget.limit / 2}) for budget in budgets()]
    assert cases.names(stricter) == cases.names(budgets())


def test_a_warning_never_stops_a_build() -> None:
    states = {budget.level: set() for budget in budgets()}
    for budget in budgets():
        states[budget.level].add(cases.state(budget))
    assert states["warn"] == {"warned"}
    assert states["error"] == {"pass", "fail", "inconclusive"}


@given(st.text())
def test_any_text_becomes_one_that_xml_can_carry(text: str) -> None:
    element = ElementTree.Element("case", message=cases.printable(text))
    ElementTree.fromstring(ElementTree.tostring(element, encoding="utf-8"))
    assert len(cases.printable(text)) == len(text)
