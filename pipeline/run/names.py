"""The names of the files in a run's folder."""

from __future__ import annotations

from typing import Final

from rarefy.pipeline.measure.predictions import files as answers
from rarefy.pipeline.report import disagreements

REPORT: Final = "report.html"
SUMMARY: Final = "summary.md"
VERDICT: Final = "verdict.json"
RECORD: Final = "run.json"
DISAGREEMENTS: Final = disagreements.FILE
ANSWERS: Final = answers.FILE
BUNDLE: Final = "bundle"
ORDER: Final = "order.txt"
"""In a store, beside a run's files: its number in the order in which runs were published there."""
JUNIT: Final = "junit.xml"
CI_FILES: Final = {
    "junit": JUNIT,
}
"""The files for CI systems, by their keys in ``--json``."""
FILES: Final = (REPORT, SUMMARY, VERDICT, DISAGREEMENTS, ANSWERS, RECORD, *CI_FILES.values())
"""All files; beside them is the folder ``BUNDLE``."""
