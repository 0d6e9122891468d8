"""The verdict as JUnit XML, one test case per budget, for Jenkins, GitLab and other readers.

The file follows ``junit-10.xsd`` of the Jenkins xUnit plug-in and contains no other attributes or
elements, because strict readers would reject the whole file.
"""

from __future__ import annotations

from xml.etree import ElementTree

from pipeline.measure.machine import flat
from pipeline.report import facts, headline
from pipeline.report.ci import cases
from pipeline.report.ci.cases import printable
from pipeline.terms.vocabulary import LINEAR
from pipeline.verdict.record import ReportData
from pipeline.verdict.verdict import BudgetResult


def render(data: ReportData, strict: bool) -> str:
    """Return the test suite of a run.

    A missed budget is a failure. An inconclusive one is a failure of type ``inconclusive`` if
    ``strict``, else skipped. A budget of level ``warn`` passes, with its result as output. Each
    reason why the measurement does not support a verdict is an error.
    """
    suite = _Suite(data.name, data.created, _seconds(data))
    suite.properties(_facts(data))
    for number, sentence in enumerate(data.verdict.evidence if data.verdict else [], 1):
        suite.case(f"evidence {number}", "error", "evidence", sentence)
    budgets = data.verdict.budgets if data.verdict else []
    for name, budget in zip(cases.names(budgets), budgets, strict=True):
        _budget(suite, name, budget, strict)
    for tag in data.absent:
        suite.case(f"against {tag}", "skipped", "unjudged", headline.first_release([tag]))
    if not suite.cases:
        suite.case("verdict", "skipped", "unjudged", "no budget was judged")
    return suite.text()


def _seconds(data: ReportData) -> float:
    """Return how long this run's own stages took; the linear model's time is in that of its own."""
    return sum(row.seconds for row in data.ledger if not row.cached and row.kind != LINEAR)


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
            attributes = {"name": name, "value": printable(value)}
            ElementTree.SubElement(parent, "property", attributes)

    def case(self, name: str, tag: str, kind: str, text: str) -> None:
        """Add a test case with a child element ``tag``; the case passes if it is system-out."""
        attributes = {"name": printable(name), "classname": self.name}
        case = ElementTree.SubElement(self._suite, "testcase", attributes)
        self.cases.append(case)
        element = ElementTree.SubElement(case, tag)
        element.text = printable(text)
        if tag != "system-out":
            element.attrib |= {"message": printable(text), "type": kind}

    def text(self) -> str:
        counts = {
            "tests": len(self.cases),
            "failures": self._count("failure"),
            "errors": self._count("error"),
        }
        numbers = {name: str(count) for name, count in counts.items()}
        self._suite.attrib |= numbers | {"skipped": str(self._count("skipped"))}
        # The xUnit plug-in's schema has no "skipped" attribute on the top element.
        top = ElementTree.Element("testsuites", {"name": "rarefy"} | numbers)
        top.append(self._suite)
        ElementTree.indent(top)
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(top, "unicode") + "\n"
        )

    def _count(self, tag: str) -> int:
        return sum(case.find(tag) is not None for case in self.cases)


def _budget(suite: _Suite, name: str, budget: BudgetResult, strict: bool) -> None:
    state, reason = cases.state(budget), budget.reason
    if state == "warned":
        reason = f"warning ({budget.outcome}): {reason}"
    tag = {"fail": "failure", "inconclusive": "failure" if strict else "skipped"}
    suite.case(name, tag.get(state, "system-out"), budget.outcome, reason)


def _facts(data: ReportData) -> dict[str, str]:
    """Return what is needed to reproduce the run: command, artifact and machine."""
    properties = {
        "command": data.command,
        "verdict": data.verdict.outcome if data.verdict else "none",
    }
    row = facts.candidate_row(data)
    if row is not None:
        properties["artifact"] = row.digest
    return properties | {f"machine.{name}": value for name, value in flat(data.machine).items()}
