"""The linear model stands beside the others: in one line, in the ledger and on every page."""

from __future__ import annotations

import pytest

from pipeline.measure.measurements import Linear, Measurements
from pipeline.report import html, linear, markdown
from tests.pipeline.report.factory import measurements, report_data


def with_linear() -> Measurements:
    found = measurements().model_copy(deep=True)
    answers = found.models["candidate"].answers
    found.linear = Linear(
        size=3_100_000, seconds=4.2, rows=8070, milliseconds=[0.1, 0.2, 9.0], answers=answers
    )
    return found


def test_its_line_has_score_time_size_and_training() -> None:
    found = with_linear()
    said = linear.line(found)
    assert said is not None
    shown = found.score("accuracy", "candidate")
    assert said.startswith(f"{linear.WORDS}: accuracy {100 * shown.value:.4g}")
    assert said.endswith("0.2 ms from text to answer, 3.1 MB, trained in 4 s on 8,070 rows")


def test_its_row_in_the_ledger_is_no_model_of_a_stage() -> None:
    found = with_linear()
    row = linear.row(found)
    assert row is not None
    assert (row.id, row.kind, row.parameters) == ("linear", "linear", None)
    assert row.accuracy is not None
    assert row.accuracy[0] == pytest.approx(found.score("accuracy", "candidate").value)


def test_all_pages_say_it_and_nothing_is_said_without_one() -> None:
    data = report_data().model_copy(update={"measurements": with_linear()})
    said = str(linear.line(data.measurements))
    assert said[1:] in html.render(data)
    assert "trained in 4 s" in markdown.render(data)
    assert linear.line(measurements()) is linear.row(measurements()) is None
    assert linear.line(None) is None


def test_its_score_is_as_unsure_of_groups_as_the_others() -> None:
    found = with_linear()
    sure = linear.score(found)
    found.groups = [row // 25 for row in range(len(found.truth))]
    assert linear.score(found) == found.score("accuracy", "candidate") != sure
