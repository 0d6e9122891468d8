"""The rows on which candidate and reference disagree, as CSV next to the report."""

from __future__ import annotations

import csv
from io import StringIO
from typing import TYPE_CHECKING, Final

from rarefy.pipeline.measure.predictions import examples

if TYPE_CHECKING:  # `rarefy plan` needs the file's name alone
    from rarefy.pipeline.verdict.record import ReportData

FILE: Final = "disagreements.csv"
KINDS: Final = {
    examples.LOST: "regression",
    examples.WON: "improvement",
    examples.SURE: "confidently wrong",
}


def render(data: ReportData) -> str | None:
    """Return the recorded rows, regressions first; None if there are none."""
    measured = data.measurements
    if measured is None or not measured.samples:
        return None
    names: dict[str, None] = {}
    for sample in measured.samples:
        names |= dict.fromkeys(sample)
    names.pop("kind", None)
    text = StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["disagreement", *names])
    for sample in measured.samples:
        kind = sample.get("kind", "")
        cells = [sample.get(name, "") for name in names]
        rows.writerow([KINDS.get(kind, kind), *cells])
    return text.getvalue()
