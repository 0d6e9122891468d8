"""Reliability diagram: the accuracy of predictions of similar confidence."""

from __future__ import annotations

import math

from pipeline.measure.classes import Bin
from pipeline.measure.measurements import CANDIDATE
from pipeline.report import wording
from pipeline.report.figures import svg
from pipeline.report.figures.axes import Frame, Rule, axes
from pipeline.report.figures.svg import PAGE

FEWEST = 10
"""Minimum rows of a bin that is drawn; with fewer, its accuracy is mostly noise."""


def reliability(models: dict[str, tuple[Bin, ...]], width: int, name: str) -> str:
    """Return the curves of both models and the diagonal of a perfectly calibrated model."""
    height = 300.0
    left, right, top, bottom = inside = Frame(52.0, width - 24.0, 26.0, height - 50)
    drawn = {model: [b for b in bins if b.rows >= FEWEST] for model, bins in models.items()}
    values = [v for bins in drawn.values() for b in bins for v in (b.confidence, b.accuracy)]
    low = math.floor(min(values, default=0) * 10) / 10
    across, up = svg.linear(low, 1, left, right), svg.linear(low, 1, bottom, top)
    titles = ("Accuracy", "confidence")
    steps = [(value, f"{100 * value:.0f}{wording.NBSP}%") for value in svg.ticks(low, 1, 5)]
    rules = [Rule(up(value), words, "1 3") for value, words in steps]
    parts = [axes(inside, titles, rules, [(across(value), words) for value, words in steps])]
    parts.append(svg.line(left, bottom, right, top, PAGE.muted, 1, "2 4"))
    order = sorted(drawn, key=lambda model: model == CANDIDATE)  # draw the candidate on top
    parts += [_curve(model, drawn[model], across, up) for model in order]
    description = "; ".join(
        f"{model}: "
        + ", ".join(
            f"accuracy {b.accuracy:.0%} at confidence {b.confidence:.0%} ({b.rows} rows)"
            for b in bins
        )
        for model, bins in drawn.items()
    )
    return svg.document(name, width, height, "Reliability", description, "".join(parts))


def _curve(model: str, bins: list[Bin], across: svg.Scale, up: svg.Scale) -> str:
    if not bins:
        return ""
    own = model == CANDIDATE
    places = [(across(b.confidence), up(b.accuracy)) for b in bins]
    commands = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    colour, thick, dash = (PAGE.accent, 2.5, "") if own else (PAGE.other, 2, "6 3")
    marks = [
        svg.group(
            f"{model}: {b.rows} rows, confidence {b.confidence:.1%}, accuracy {b.accuracy:.1%}",
            svg.mark(x, y, own),
        )
        for b, (x, y) in zip(bins, places, strict=True)
    ]
    return svg.path(commands, colour, thick, dash) + "".join(marks)
