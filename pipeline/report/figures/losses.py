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
    low = min(curve.losses)
    high = max(curve.losses)
    room = (high - low) * 0.1 or 0.1
    steps = Axis("step", 0, curve.steps, wording.count)
    loss = Axis(f"loss of {title}", low - room, high + room, "{:.3g}".format)
    plot = Plot(name, width, HEIGHT, f"Loss of {title}", x=steps, y=loss)
    part = curve.steps / len(curve.losses)
    points = [(part * (index + 0.5), value) for index, value in enumerate(curve.losses)]
    plot.series(points, CANDIDATE_STYLE)
    last = wording.significant(curve.losses[-1])
    plot.descriptions.append(f"{curve.steps:,} steps, {last} at the end")
    return plot.svg()
