"""Disagreements by class: rows that only the reference or only the candidate gets right."""

from __future__ import annotations

from pipeline.report import facts
from pipeline.report.figures import svg
from pipeline.report.figures.svg import PAGE

MAX_CLASSES = 12


def flips(changed: facts.Flips, width: int, name: str) -> str:
    """Return mirrored bars around a middle axis: lost to the left, won to the right."""
    order = sorted(changed.classes, key=lambda c: c.lost + c.won, reverse=True)[:MAX_CLASSES]
    label, numbers, top, step = min(150.0, width * 0.28), 34.0, 30.0, 26.0
    left, right = label + numbers, width - numbers
    middle = (left + right) / 2
    most = max([max(c.lost, c.won) for c in order] + [1])
    reach = svg.linear(0, most, 0, (right - left) / 2 - 2)
    height = top + step * len(order) + 8
    parts = [
        svg.text(middle - 8, 14, "lost ←", PAGE.muted, size=11.5, anchor="end"),
        svg.text(middle + 8, 14, "→ won", PAGE.muted, size=11.5),
    ]
    for index, row in enumerate(order):
        y = top + step * (index + 0.5)
        lost, won = reach(row.lost), reach(row.won)
        shown = svg.fit(row.label, label, 12)
        body = svg.bar(middle - 1 - lost, y - 7, lost, 14, PAGE.limit) if row.lost else ""
        body += svg.bar(middle + 1, y - 7, won, 14, PAGE.accent) if row.won else ""
        parts += [
            svg.text(0, y + 4, shown, PAGE.ink),
            svg.group(f"{row.label}: {row.lost} lost, {row.won} won of {row.rows} rows", body),
            svg.text(middle - lost - 7, y + 4, str(row.lost), PAGE.ink, anchor="end"),
            svg.text(middle + won + 7, y + 4, str(row.won), PAGE.ink),
        ]
    parts.append(svg.line(middle, top - 4, middle, height - 4, PAGE.muted))
    description = "; ".join(f"{c.label}: {c.lost} lost, {c.won} won" for c in order)
    return svg.document(name, width, height, "Disagreements by class", description, "".join(parts))
