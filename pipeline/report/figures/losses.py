"""The losses of a training over its steps."""

from __future__ import annotations

from rarefy.pipeline.report import wording
from rarefy.pipeline.report.figures.chart import CANDIDATE_STYLE, Axis, Plot
from rarefy.pipeline.store.artifact import Curve

HEIGHT = 200.0


def losses(curve: Curve, title: str, width: int, name: str) -> str:
    """Return the curve; each point stands in the middle of its part of the steps.

    Args:
        curve: Its losses, at least one and all finite.
        title: Of the training.
        width: The width in pixels.
        name: A name that is unique in the page.
    """
    values = curve.losses
    low = min(values)
    high = max(values)
    room = 0.1 * (high - low) or 0.1
    low -= room
    high += room
    steps = Axis("step", 0, curve.steps, wording.count)
    loss = Axis(f"loss of {title}", low, high, "{:.3g}".format)
    heading = f"Loss of {title}"
    plot = Plot(name, width, HEIGHT, heading, x=steps, y=loss)
    part = curve.steps / len(values)
    points = []
    for index, value in enumerate(values):
        middle = part * (index + 0.5)
        points.append((middle, value))
    plot.series(points, CANDIDATE_STYLE)
    last = wording.significant(values[-1])
    words = f"{curve.steps:,} steps, {last} at the end"
    plot.descriptions.append(words)
    return plot.svg()
