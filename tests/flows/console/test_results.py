"""The result of a run in Python and in a notebook."""

from __future__ import annotations

from html import escape

from rarefy.flows.console.results import Ledger, Result
from rarefy.pipeline.run.outcome import Outcome
from tests.pipeline.report.factory import report_data


def test_a_ledger_is_a_sequence_that_prints_as_a_table():
    data = report_data()
    ledger = Ledger(data.ledger)
    assert list(ledger) == data.ledger
    assert ledger[0] == data.ledger[0]
    assert ledger[1:] == tuple(data.ledger[1:])
    lines = repr(ledger).splitlines()
    assert len(lines) == 1 + len(data.ledger)
    assert all(row.id in line for row, line in zip(data.ledger, lines[1:], strict=True))
    assert ledger._repr_html_() == f"<pre>{escape(repr(ledger))}</pre>"


def test_a_correlation_in_the_ledger_is_no_percentage():
    rows = [row for row in report_data().ledger if row.accuracy]
    shown = repr(Ledger([rows[0].model_copy(update={"metric": "spearman"})]))
    assert "0.832  0.817 – 0.847" in shown


def test_a_result_says_its_verdict_and_where_its_files_are(tmp_path):
    data = report_data()
    paths = {"report": str(tmp_path / "report.html"), "bundle": str(tmp_path / "bundle")}
    result = Result(Outcome(data, None), paths)
    assert result.verdict == data.verdict
    assert (result.report, result.bundle) == (tmp_path / "report.html", tmp_path / "bundle")
    assert f"verdict: {data.verdict.outcome}" in repr(result)
    assert all(budget.metric in result._repr_html_() for budget in data.verdict.budgets)
    assert result.figures["ledger"]._repr_svg_().startswith("<svg")


def test_a_result_without_a_verdict_says_none(tmp_path):
    data = report_data(verdict=None, measurements=None)
    result = Result(Outcome(data, None), {"report": str(tmp_path / "report.html")})
    assert result.bundle is None
    assert "verdict: none" in repr(result)


def test_texts_are_escaped(tmp_path):
    data = report_data()
    data.verdict.budgets[0].reason = "<script>alert(1)</script>"
    result = Result(Outcome(data, None), {"report": "r"})
    assert "<script>" not in result._repr_html_()


def test_why_there_is_no_verdict_is_said_and_that_a_first_release_was_compared_with_nothing(
    tmp_path,
):
    data = report_data(absent=["production"])
    data.verdict = data.verdict.model_copy(
        update={"outcome": "inconclusive", "evidence": ["cpu: throttled <half> way"]}
    )
    result = Result(Outcome(data, None), {"report": "r"})
    for text, mark in ((repr(result), "<half>"), (result._repr_html_(), "&lt;half&gt;")):
        assert f"no verdict: cpu: throttled {mark} way" in text
        assert "verdict: inconclusive (first release: " in text
