"""Reliability diagram: the accuracy of predictions of similar confidence."""

from __future__ import annotations

import math

from pipeline.measure.classes import Bin
from pipeline.measure.measurements import CANDIDATE
from pipeline.report import wording
from pipeline.report.figures.chart import MUTED, Axis, Plot, style

HEIGHT = 300.0
FEWEST = 10
"""Minimum rows of a bin that is drawn; with fewer, its accuracy is mostly noise."""


def reliability(models: dict[str, tuple[Bin, ...]], width: int, name: str) -> str:
    """Return the curves of both models and the diagonal of a perfectly calibrated model.

    Args:
        models: Model -> its bins of predictions with similar confidence.
        width: The width in pixels.
        name: A name that is unique in the page.
    """
    curves: dict[str, list[Bin]] = {}
    values: list[float] = []
    for model, groups in models.items():
        curves[model] = [part for part in groups if part.rows >= FEWEST]
        for part in curves[model]:
            values += [part.confidence, part.accuracy]
    least = min(values, default=0)
    low = math.floor(least * 10) / 10
    confidence = Axis("confidence", low, 1, wording.share, inset=(0, 10))
    accuracy = Axis("Accuracy", low, 1, wording.share)
    plot = Plot(name, width, HEIGHT, "Reliability", x=confidence, y=accuracy)
    start = plot.place(low, low)
    end = plot.place(1, 1)
    plot.line(start, end, MUTED, 1, "2 4")
    for model in sorted(curves, key=CANDIDATE.__eq__):  # the candidate is on top
        _draw(plot, model, curves[model])
    for model, bins in curves.items():
        parts = []
        for part in bins:
            shares = f"accuracy {part.accuracy:.0%} at confidence {part.confidence:.0%}"
            parts.append(f"{shares} ({part.rows} rows)")
        words = ", ".join(parts)
        plot.descriptions.append(f"{model}: {words}")
    return plot.svg()


def _draw(plot: Plot, model: str, bins: list[Bin]) -> None:
    if not bins:
        return
    candidate = model == CANDIDATE
    points = [(part.confidence, part.accuracy) for part in bins]
    plot.series(points, style(candidate))
    for part in bins:
        shares = f"confidence {part.confidence:.1%}, accuracy {part.accuracy:.1%}"
        x, y = plot.place(part.confidence, part.accuracy)
        words = f"{model}: {part.rows} rows, {shares}"
        with plot.tooltip(words):
            plot.dot(x, y, candidate)
