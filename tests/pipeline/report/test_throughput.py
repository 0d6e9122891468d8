"""Throughput in the report, the summary and the terminal."""

from __future__ import annotations

from rarefy.flows.console import summary
from rarefy.flows.console.options import as_text
from rarefy.pipeline.measure.rows_per_second import Throughput
from rarefy.pipeline.report import html, markdown, throughput
from rarefy.pipeline.verdict.record import ReportData
from tests.pipeline.report.factory import measurements, report_data


def counted(**more: object) -> Throughput:
    """Return 1,000 rows/s of a candidate with five workers' processes, 200 of its teacher."""
    candidate = [[0.99, 1.0], [1.0, 1.01], [1.0, 1.0], [1.01, 1.0], [0.99, 1.0]]
    teacher = [[5 * time for time in blocks] for blocks in candidate]
    samples = {"candidate": candidate, "teacher": teacher}
    values = {
        "samples": samples,
        "cpu": samples,
        "batch": {"candidate": 8, "teacher": 32},
        "tried": {"candidate": {1: 800.0, 8: 1000.0}},
        "workers": 2,
        "threads": 1,
        "provider": "cpu",
        "rows": 200,
        "stopped": "the results were clear",
    }
    return Throughput.model_validate(values | more)


def data(timed: Throughput) -> ReportData:
    measured = measurements(calls=20, rows=50).model_copy(update={"throughput": {"cpu": timed}})
    return report_data(measurements=measured)


def test_a_line_says_rows_a_second_how_and_what_they_cost() -> None:
    line = throughput.line("cpu", counted())
    assert line.startswith("throughput on cpu: 1,000 rows/s [99")
    assert "(2 workers × 1 thread, batches of 8); 1 [0.99" in line
    assert line.endswith("CPU s per 1,000 rows")


def test_lists_and_a_corpus_are_in_the_line_if_there_are_any() -> None:
    lists = {"candidate": [[20.0, 21.0]] * 5}
    line = throughput.line("cpu", counted(lists=lists, corpus=60_000))
    assert "a list of candidates in 20.5 ms [" in line
    assert line.endswith("the corpus of 60 k documents in 1 min")


def test_the_report_has_a_row_for_each_model_where_it_was_measured() -> None:
    page = html.render(data(counted()))
    assert page.count("<h3>Throughput</h3>") == 1, "on one of two targets"
    assert "<td>1: 800, 8: 1,000</td>" in page
    assert "<td>named by the target</td>" in page, "the teacher's was not chosen"
    assert "2 workers × 1 thread, all busy" in page
    assert "A whole list" not in page
    listed = counted(lists={"candidate": [[20.0, 21.0]] * 5}, corpus=4000, throttled="it slowed")
    page = html.render(data(listed))
    assert "A whole list p50" in page
    assert "4,000 documents" in page
    assert "No verdict on this throughput:</strong> it slowed" in page
    assert "Throughput" not in html.render(report_data())


def test_the_summary_has_the_line() -> None:
    text = markdown.render(data(counted()))
    assert "throughput on cpu: 1,000 rows/s" in text
    assert "throughput" not in markdown.render(report_data())


def test_the_terminal_shows_it_before_and_after() -> None:
    table = summary.gains_table(data(counted()))
    assert table is not None
    line = next(line for line in as_text(table).splitlines() if line.startswith("throughput"))
    assert line.split()[1:7] == ["200", "rows/s", "1,000", "rows/s", "5.00×", "faster"]
    alone = counted(samples={"candidate": counted().samples["candidate"]})
    table = summary.gains_table(data(alone))
    assert table is not None
    line = next(line for line in as_text(table).splitlines() if line.startswith("throughput"))
    assert line.split()[1:3] == ["1,000", "rows/s"]
