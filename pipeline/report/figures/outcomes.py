"""A recipe's verdicts in a row, to show at a glance how often it passed."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.report.figures import svg
from pipeline.report.figures.svg import PAGE
from pipeline.terms.outcomes import Outcome
from pipeline.verdict.readings import Past

HEIGHT = 26.0
STEP = 10
SHAPES: dict[Outcome, tuple[float, str]] = {
    "pass": (10, "var(--pass)"),
    "inconclusive": (17, "var(--inconclusive)"),
    "fail": (26, "var(--fail)"),
}
"""Outcome -> height and colour; the heights differ so that failures stand out without colour."""


def outcomes(verdicts: Sequence[Past], name: str) -> str:
    """Return the strip, the latest verdict at its right end."""
    parts = []
    for index, past in enumerate(verdicts):
        height, colour = SHAPES[past.standing]
        x, y = index * STEP + 1.5, HEIGHT - height
        if past.standing == "inconclusive":
            body = (
                f'<rect x="{x + 0.75:.2f}" y="{y + 0.75:.2f}" width="5.5" '
                f'height="{height - 1.5:g}" rx="1.5" fill="{PAGE.surface}" stroke="{colour}" '
                'stroke-width="1.5"/>'
            )
        else:
            body = svg.bar(x, y, 7, height, colour)
        tooltip = f"{past.time[:16].replace('T', ' ')} · {past.standing}"
        parts.append(svg.group(tooltip, body))
    counted = {word: sum(past.standing == word for past in verdicts) for word in SHAPES}
    summary = ", ".join(f"{count} {word}" for word, count in counted.items() if count)
    return svg.document(
        name, len(verdicts) * STEP, HEIGHT, "Verdicts, oldest first", summary, "".join(parts)
    )
