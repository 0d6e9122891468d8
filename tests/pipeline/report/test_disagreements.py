"""The rows on which two models disagree, for a spreadsheet."""

from __future__ import annotations

import csv
from io import StringIO

from rarefy.pipeline.report import disagreements
from tests.pipeline.report.factory import measurements, report_data


def test_all_recorded_rows_are_in_the_table_whatever_is_in_their_texts() -> None:
    measured = measurements().model_copy(deep=True)
    measured.samples = [
        {"kind": "lost", "text": 'a "b",\nc', "truth": "x", "candidate": "y"},
        {"kind": "won", "text": "d", "truth": "x", "reference": "y", "candidate": "x"},
    ]
    text = disagreements.render(report_data(measurements=measured))
    assert text is not None
    first, second = csv.DictReader(StringIO(text))
    assert (first["disagreement"], first["text"]) == ("regression", 'a "b",\nc')
    assert (second["disagreement"], second["reference"]) == ("improvement", "y")
    assert first["reference"] == ""


def test_without_such_rows_there_is_no_table() -> None:
    assert disagreements.render(report_data(measurements=None)) is None
