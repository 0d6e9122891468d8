"""JUnit XML, read by a standard parser, for budgets in every outcome."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st
from junitparser import Error, Failure, JUnitXml, Skipped

from rarefy.pipeline.report.ci import junit
from tests.pipeline.report.ci.budgets import HOSTILE, budgets, ten
from tests.pipeline.report.factory import report_data


def kinds(text: str) -> dict[str, set[type]]:
    suite = next(iter(JUnitXml.fromstring(text.encode())))
    return {case.name: {type(found) for found in case.result} for case in suite}


def counts(text: str) -> tuple[int, int, int, int]:
    suite = next(iter(JUnitXml.fromstring(text.encode())))
    said = (suite.tests, suite.failures, suite.errors, suite.skipped)
    suite.update_statistics()
    assert said == (suite.tests, suite.failures, suite.errors, suite.skipped)
    return said


def test_ten_budgets_are_ten_test_cases() -> None:
    """Four error-level budgets fail or cannot be measured, two are inconclusive, two only warn."""
    strict, lenient = (junit.render(ten(), strict) for strict in (True, False))
    assert counts(strict) == (10, 5, 0, 2)
    assert counts(lenient) == (10, 3, 0, 4)
    found, loose = kinds(strict), kinds(lenient)
    assert len(found) == 10
    for name in ("accuracy max_drop against production #2", "latency_p99 max on cpu-all"):
        assert (found[name], loose[name]) == ({Failure}, {Skipped})
    for name in ("size max (warn)", "latency_p95 max on cpu (warn)"):
        assert (found[name], loose[name]) == ({Skipped}, {Skipped}), "not judged is no pass"
    for name in ("memory max", "latency_p50 min_speedup against teacher on cpu-all"):
        assert (found[name], loose[name]) == ({Failure}, {Failure})


def test_what_came_from_the_cache_took_this_run_no_time() -> None:
    data = report_data()
    rows = [row.model_copy(update={"seconds": 3.0, "cached": True}) for row in data.ledger]
    rows[-1] = rows[-1].model_copy(update={"cached": False})
    text = junit.render(data.model_copy(update={"ledger": rows}), strict=True)
    suite = next(iter(JUnitXml.fromstring(text.encode())))
    assert suite.time == 3.0


def test_a_failure_and_an_undecided_budget_are_told_apart_and_give_their_reason() -> None:
    suite = next(iter(JUnitXml.fromstring(junit.render(ten(), strict=True).encode())))
    by_name = {case.name: case for case in suite}
    undecided = by_name["latency_p99 max on cpu-all"].result[0]
    assert (undecided.type, undecided.message) == ("inconclusive", "latency_p99 max: a reason")
    assert by_name["memory max"].result[0].type == "fail"
    assert by_name["size max (warn)"].result[0].message == "warning (fail): size max: a reason"
    properties = {one.name: one.value for one in suite.properties()}
    assert properties["machine.libraries.onnxruntime"] == "1.32.0"


def test_a_case_keeps_its_name_when_its_limit_changes() -> None:
    """CI systems track the history of a test by its name."""
    before = junit.render(ten(), strict=True)
    stricter = [budget.model_copy(update={"limit": budget.limit / 2}) for budget in budgets()]
    assert list(kinds(junit.render(ten(budgets=stricter), strict=True))) == list(kinds(before))


def test_missing_evidence_is_an_error_however_lenient() -> None:
    data = ten(outcome="pass", budgets=budgets()[:1], evidence=["throttled half way", "other CPU"])
    for strict in (True, False):
        text = junit.render(data, strict)
        assert counts(text) == (3, 0, 2, 0)
        assert kinds(text)["evidence 1"] == {Error}
        assert "throttled half way" in text


def test_a_run_without_a_verdict_is_no_empty_suite() -> None:
    """Jenkins treats a report without tests as an error."""
    assert counts(junit.render(report_data(verdict=None), strict=True)) == (1, 0, 0, 1)
    assert counts(junit.broken("demo", "the weights are made of cheese")) == (1, 0, 1, 0)


def test_hostile_text_does_not_break_the_xml() -> None:
    budget = budgets()[7].model_copy(update={"reason": HOSTILE, "against": HOSTILE})
    text = junit.render(ten(budgets=[budget]), strict=True)
    suite = next(iter(JUnitXml.fromstring(text.encode())))
    message = next(iter(suite)).result[0].message
    assert message.startswith('a <b> & "c" \\ #1 |')
    assert "\x00" not in message
    assert "\x1b" not in message


def test_no_two_budgets_have_one_name_whatever_their_limits() -> None:
    found = junit.case_names([*budgets(), *budgets()])
    assert len(set(found)) == len(found) == 2 * len(budgets())
    stricter = [budget.model_copy(update={"limit": budget.limit / 2}) for budget in budgets()]
    assert junit.case_names(stricter) == junit.case_names(budgets())


def test_a_warning_never_stops_a_build() -> None:
    states = {budget.level: set() for budget in budgets()}
    for budget in budgets():
        states[budget.level].add(junit.case_state(budget))
    assert states["warn"] == {"warned"}
    assert states["error"] == {"pass", "fail", "inconclusive"}


@given(st.text())
def test_any_text_becomes_one_that_xml_can_carry(text: str) -> None:
    element = ElementTree.Element("case", message=junit.printable(text))
    ElementTree.fromstring(ElementTree.tostring(element, encoding="utf-8"))
    assert len(junit.printable(text)) == len(text)
