"""Disagreements by class: rows that only the reference or only the candidate gets right."""

from __future__ import annotations

from pipeline.report import facts
from pipeline.report.figures.chart import ACCENT, LIMIT, MUTED, NOTE, PLAIN, Chart, Scale, fit

MAX_CLASSES = 12
NUMBERS = 34.0
"""Pixels at both ends for the numbers beside the longest bars."""
TOP, STEP = 30.0, 26.0


def flips(changed: facts.Flips, width: int, name: str) -> str:
    """Return mirrored bars around a middle axis: lost to the left, won to the right.

    Args:
        changed: The rows on which candidate and reference disagree, with at least one class.
        width: The width in pixels.
        name: A name that is unique in the page.
    """
    order = sorted(changed.classes, key=lambda row: row.lost + row.won, reverse=True)
    rows = order[:MAX_CLASSES]
    room = min(150.0, width * 0.28)
    half = (width - room) / 2 - NUMBERS
    middle = width - NUMBERS - half
    longest = 1
    for row in rows:
        longest = max(longest, row.lost, row.won)
    length = Scale(0, longest, 0, half - 2)
    height = TOP + STEP * len(rows) + 8
    chart = Chart(name, width, height, "Disagreements by class")
    chart.text(middle - 8, 10, "lost ←", NOTE, "end")
    chart.text(middle + 8, 10, "→ won", NOTE)
    y = TOP + STEP / 2
    for row in rows:
        left = middle - length(row.lost)
        right = middle + length(row.won)
        counts = f"{row.label}: {row.lost} lost, {row.won} won"
        top = y - 7
        with chart.tooltip(f"{counts} of {row.rows} rows"):
            if row.lost:
                chart.bar((left - 1, top), middle - left, 14, LIMIT)
            if row.won:
                chart.bar((middle + 1, top), right - middle, 14, ACCENT)
        label = fit(row.label, room)
        chart.text(0, y, label)
        chart.text(left - 7, y, str(row.lost), PLAIN, "end")
        chart.text(right + 7, y, str(row.won))
        chart.descriptions.append(counts)
        y += STEP
    chart.line((middle, TOP - 4), (middle, height - 4), MUTED)
    return chart.svg()
