"""Labels and slices in the files of a run: a table, a case each in JUnit, the worst in Markdown."""

from __future__ import annotations

import pytest
from junitparser import Failure, JUnitXml, Skipped

from rarefy.pipeline.report import html, markdown
from rarefy.pipeline.report.ci import annotations, junit
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.verdict.record import ReportData
from rarefy.pipeline.verdict.verdict import BudgetResult, CellResult, Verdict
from tests.pipeline.report.factory import report_data

CELLS = [
    CellResult(name="SSN", rows=40, value=0.1, low=0.04, high=0.2, outcome="fail", reason="lost"),
    CellResult(name="<b>|", rows=7, outcome="inconclusive", reason="too few"),
    CellResult(name="CITY", rows=900, value=0.0, low=-0.01, high=0.01, outcome="pass", reason="ok"),
]
FAMILY = BudgetResult(
    metric="recall", label="*", form="max_drop", limit=0.02, against="teacher", value=0.1, low=0.04,
    high=0.2, outcome="fail", reason="of 3 cells 1 fail; the worst is SSN: lost", cells=CELLS,
)  # fmt: skip
ONE = BudgetResult(
    metric="accuracy", slice="language=de", form="min", limit=0.9, value=0.95, low=0.92, high=0.97,
    outcome="pass", reason="de: fine", cells=CELLS[2:],
)  # fmt: skip


@pytest.fixture
def data() -> ReportData:
    verdict = Verdict(outcome="fail", budgets=[FAMILY, ONE])
    return report_data().model_copy(update={"verdict": verdict})


def test_each_cell_is_a_test_case(data: ReportData) -> None:
    suite = next(iter(JUnitXml.fromstring(junit.render(data, strict=False).encode())))
    cases = {case.name: [type(result) for result in case.result] for case in suite}
    assert cases == {
        "recall (label=SSN) max_drop against teacher": [Failure],
        "recall (label=<b>|) max_drop against teacher": [Skipped],
        "recall (label=CITY) max_drop against teacher": [],
        "accuracy (language=de) min": [],
    }


def test_labels_that_could_not_be_judged_are_one_failed_case(data: ReportData) -> None:
    missed = FAMILY.model_copy(update={"cells": [], "reason": "'teacher' was not measured"})
    verdict = Verdict(outcome="fail", budgets=[missed])
    broken = data.model_copy(update={"verdict": verdict})
    suite = next(iter(JUnitXml.fromstring(junit.render(broken, strict=False).encode())))
    assert [case.name for case in suite] == ["recall (label=*) max_drop against teacher"]
    assert 'href="#cells"' not in html.render(broken)


def test_the_page_has_a_table_of_the_cells_in_their_order(data: ReportData) -> None:
    page = html.render(data)
    section = page[page.index('<section id="cells">') : page.index('<section id="ledger">')]
    places = [section.index(name) for name in ("SSN", "&lt;b&gt;|", "CITY")]
    assert places == sorted(places)
    assert "10.00" in section, "points of the drop"
    assert "<b>" not in section
    assert 'href="#cells"' in page
    assert "language=de" in page
    plain = data.model_copy(update={"verdict": Verdict(outcome="pass", budgets=[ONE])})
    assert 'id="cells"' not in html.render(plain), "the budget's own row says it all"


def test_the_summary_names_the_worst_cell(data: ReportData) -> None:
    text = markdown.render(data)
    assert "> ✗ Worst of recall (label=\\*): **SSN**, lost" in text
    assert "recall (label=\\*)" in text[text.index("### Budgets") :]
    passed = FAMILY.model_copy(update={"outcome": "pass", "cells": CELLS[2:]})
    verdict = Verdict(outcome="pass", budgets=[passed])
    assert "Worst of" not in markdown.render(data.model_copy(update={"verdict": verdict}))


def test_an_annotation_is_at_the_line_of_the_budget_on_this_label(data: ReportData) -> None:
    limits = {"metric": "recall", "max_drop": 0.02, "against": "teacher"}
    budgets = [Budget(label="CITY", **limits), Budget(label="*", **limits)]
    lines = list(zip(budgets, (7, 8), strict=True))
    [found] = annotations.render(data, True, "demo.yaml", lines)
    assert found.startswith("::error file=demo.yaml,line=8,title=")
    assert found.endswith("the worst is SSN: lost")
