"""The verdict as JUnit XML, one test case per budget, for Jenkins, GitLab and other readers.

The file follows ``junit-10.xsd`` of the Jenkins xUnit plug-in and contains no other attributes or
elements, because strict readers would reject the whole file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Literal
from xml.etree import ElementTree

from rarefy.pipeline.measure.machine import flat
from rarefy.pipeline.report import facts, headline
from rarefy.pipeline.terms.credentials import redact
from rarefy.pipeline.terms.recipe_parts import LINEAR
from rarefy.pipeline.verdict.record import ReportData
from rarefy.pipeline.verdict.verdict import BudgetResult

State = Literal["pass", "fail", "inconclusive", "warned"]

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def case_names(budgets: Sequence[BudgetResult]) -> list[str]:
    """Return a unique name for each budget, the same from run to run.

    The name does not contain the limit, so that a budget keeps its history if the limit changes.
    """
    seen: Counter[str] = Counter()
    unique = []
    for budget in budgets:
        name = f"{budget.subject} {budget.form}"
        if budget.against:
            name += f" against {budget.against}"
        if budget.place:
            name += f" on {budget.place}"
        if budget.level == "warn":
            name += " (warn)"
        seen[name] += 1
        if seen[name] > 1:
            name += f" #{seen[name]}"
        unique.append(name)
    return unique


def case_state(budget: BudgetResult) -> State:
    """Return a budget's state; ``warned`` if it is not met but its level is ``warn``."""
    if budget.level == "warn" and budget.outcome != "pass":
        return "warned"
    return budget.outcome


def printable(text: str) -> str:
    """Return a text as CI systems may show it: without credentials and without control characters.

    Characters that XML does not allow are replaced, such as NUL and the ANSI escape character.
    """
    return _NOT_XML.sub("\ufffd", redact(text))


def render(data: ReportData, strict: bool) -> str:
    """Return the test suite of a run.

    A missed budget is a failure. An inconclusive one is a failure of type ``inconclusive`` if
    ``strict``, else skipped. A budget of level ``warn`` that is not met is skipped, with its
    result as message. Each reason why the measurement does not support a verdict is an error.
    """
    suite = _Suite(data.name, data.created, _seconds(data))
    suite.properties(_facts(data))
    budgets, evidence = [], []
    if data.verdict:
        budgets = list(chain(*map(_cases, data.verdict.budgets)))
        evidence = data.verdict.evidence
    for number, sentence in enumerate(evidence, 1):
        suite.case(f"evidence {number}", "error", "evidence", sentence)
    for name, budget in zip(case_names(budgets), budgets, strict=True):
        _budget(suite, name, budget, strict)
    for tag in data.absent:
        sentence = headline.first_release([tag])
        suite.case(f"against {tag}", "skipped", "unjudged", sentence)
    if not suite.cases:
        suite.case("verdict", "skipped", "unjudged", "no budget was judged")
    return suite.text()


def _cases(budget: BudgetResult) -> list[BudgetResult]:
    """Return a result for each label or slice of a budget on all of them, else the result."""
    if not budget.is_family or not budget.cells:
        return [budget]
    cases = []
    for cell in budget.cells:
        changes = cell.model_dump(exclude={"name", "rows"}) | {"cells": []}
        cases.append(budget.model_copy(update=changes | budget.named(cell.name)))
    return cases


def _seconds(data: ReportData) -> float:
    """Return how long this run's own stages took; the linear model's time is in that of its own."""
    seconds = 0.0
    for row in data.ledger:
        if not row.cached and row.kind != LINEAR:
            seconds += row.seconds
    return seconds


def broken(name: str, reason: str) -> str:
    """Return the test suite of a run that reached no verdict: one error with the reason."""
    suite = _Suite(name)
    suite.case("run", "error", "rarefy", reason)
    return suite.text()


class _Suite:
    """A test suite to which cases are added one by one."""

    def __init__(self, name: str, created: str | None = None, seconds: float = 0.0) -> None:
        self.name = f"rarefy.{name}"
        self.cases: list[ElementTree.Element] = []
        attributes = {"name": self.name, "time": f"{seconds:.3f}"}
        if created:
            attributes["timestamp"] = created.removesuffix("Z").removesuffix("+00:00")
        self._suite = ElementTree.Element("testsuite", attributes)

    def properties(self, values: dict[str, str]) -> None:
        parent = ElementTree.SubElement(self._suite, "properties")
        for name, value in values.items():
            attributes = {"name": name, "value": value}
            ElementTree.SubElement(parent, "property", attributes)

    def case(self, name: str, tag: str, kind: str, text: str) -> None:
        """Add a test case with a child element ``tag``; the case passes if it is system-out."""
        attributes = {"name": name, "classname": self.name}
        case = ElementTree.SubElement(self._suite, "testcase", attributes)
        self.cases.append(case)
        element = ElementTree.SubElement(case, tag)
        element.text = text
        if tag != "system-out":
            element.attrib |= {"message": text, "type": kind}

    def text(self) -> str:
        """Return the document, in which every text is ``printable``."""
        counts = {"tests": str(len(self.cases))}
        counts["failures"] = self._count("failure")
        counts["errors"] = self._count("error")
        # The xUnit plug-in's schema has no "skipped" attribute on the top element.
        top = ElementTree.Element("testsuites", {"name": "rarefy", **counts})
        self._suite.attrib |= counts
        self._suite.set("skipped", self._count("skipped"))
        top.append(self._suite)
        for element in top.iter():
            element.text = printable(element.text or "")
            for key, value in element.attrib.items():
                element.set(key, printable(value))
        ElementTree.indent(top)
        body = ElementTree.tostring(top, "unicode")
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'

    def _count(self, tag: str) -> str:
        cases = [case for case in self.cases if case.find(tag) is not None]
        return str(len(cases))


def _budget(suite: _Suite, name: str, budget: BudgetResult, strict: bool) -> None:
    state = case_state(budget)
    reason = budget.reason
    if state == "warned":
        reason = f"warning ({budget.outcome}): {reason}"
    tag = "system-out"
    if state == "fail" or (state == "inconclusive" and strict):
        tag = "failure"
    elif state in ("inconclusive", "warned"):
        tag = "skipped"
    suite.case(name, tag, budget.outcome, reason)


def _facts(data: ReportData) -> dict[str, str]:
    """Return what is needed to reproduce the run: command, artifact and machine."""
    outcome = "none"
    if data.verdict:
        outcome = data.verdict.outcome
    properties = {"command": data.command, "verdict": outcome}
    row = facts.candidate_row(data)
    if row is not None:
        properties["artifact"] = row.digest
    for name, value in flat(data.machine).items():
        properties[f"machine.{name}"] = value
    return properties
