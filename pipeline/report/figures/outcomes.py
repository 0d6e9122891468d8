"""A recipe's verdicts in a row, to show at a glance how often it passed."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.report import wording
from pipeline.report.figures.chart import OUTCOMES, SURFACE, Chart
from pipeline.terms.outcomes import Outcome
from pipeline.verdict.readings import Past

HEIGHT = 26.0
STEP = 10
HEIGHTS: dict[Outcome, float] = {"pass": 10, "inconclusive": 17, "fail": HEIGHT}
"""The heights differ so that failures stand out without colour."""


def outcomes(verdicts: Sequence[Past], name: str) -> str:
    """Return the strip, the latest verdict at its right end."""
    chart = Chart(name, len(verdicts) * STEP, HEIGHT, "Verdicts, oldest first")
    counts = dict.fromkeys(HEIGHTS, 0)
    x = 1.5
    for past in verdicts:
        height = HEIGHTS[past.standing]
        colour = OUTCOMES[past.standing]
        top = HEIGHT - height
        with chart.tooltip(f"{wording.minute(past.time)} · {past.standing}"):
            chart.bar((x, top), 7, height, colour)
            if past.standing == "inconclusive":
                chart.bar((x + 1.5, top + 1.5), 4, height - 3, SURFACE)
        counts[past.standing] += 1
        x += STEP
    summary = [f"{count} {outcome}" for outcome, count in counts.items() if count]
    chart.descriptions.append(", ".join(summary))
    return chart.svg()
