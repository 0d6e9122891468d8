"""The record of a run: its schema, and how old its measurements are."""

from __future__ import annotations

from rarefy.pipeline.verdict.record import ReportData
from tests.pipeline.report.factory import report_data


def test_a_record_without_measurements_is_as_old_as_itself() -> None:
    data = report_data()
    assert data.measured == data.created
    assert report_data(measured_at="2025-01-01T00:00:00+00:00").measured[:4] == "2025"


def test_a_record_names_its_schema_and_is_read_again() -> None:
    values = report_data().model_dump(mode="json", by_alias=True)
    assert values["schema"] == "rarefy.run/1"
    assert ReportData.model_validate(values) == report_data()
