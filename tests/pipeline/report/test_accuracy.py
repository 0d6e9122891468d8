"""What a report shows about accuracy beyond one number."""

from __future__ import annotations

import pytest

from rarefy.pipeline.report import accuracy
from tests.pipeline.report.factory import report_data


def test_the_view_compares_with_the_reference_of_the_budgets() -> None:
    view = accuracy.build(report_data())
    assert view.reference == "teacher"
    assert set(view.calibration) == {"candidate", "teacher"}
    flips = [found.lost + found.won for found in view.classes]
    assert flips == sorted(flips, reverse=True)
    assert [found.title.partition(":")[0] for found in view.examples] == [
        "Regressions",
        "Improvements",
        "Confidently wrong",
    ]
    for found in view.examples:
        assert "kind" not in found.columns
        assert "confidence" in found.columns
        assert all(len(row) == len(found.columns) for row in found.rows)


def test_without_a_measured_reference_there_is_nothing_to_say() -> None:
    assert accuracy.build(report_data(measurements=None)) is None
    data = report_data()
    alone = {"candidate": data.measurements.models["candidate"]}
    measured = data.measurements.model_copy(update={"models": alone})
    assert accuracy.build(report_data(measurements=measured, verdict=None)) is None


@pytest.mark.parametrize(("p", "text"), [(0.0004, "p < 0.001"), (0.031, "p = 0.031")])
def test_a_small_p_value_has_no_digits_that_nobody_believes(p: float, text: str) -> None:
    assert accuracy.chance(p) == text
