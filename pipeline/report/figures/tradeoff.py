"""Accuracy against latency: every measured model, with its intervals, and the Pareto front."""

from __future__ import annotations

from collections.abc import Callable, Collection

from rarefy.pipeline.report import facts, wording
from rarefy.pipeline.report.figures.chart import HEIGHT, MUTED, Axis, Box, Plot, Point, style
from rarefy.pipeline.terms import metrics

TITLE = "← faster · p50 latency in ms (log scale)"


def tradeoff(
    models: list[facts.Point],
    width: int,
    name: str,
    metric: str = "accuracy",
    named: Collection[str] | None = None,
) -> str:
    """Return the scatter plot; up and to the left is better.

    Args:
        models: The points, at least one.
        width: The width in pixels.
        name: A name that is unique in the page.
        metric: The main score.
        named: The models whose names stand beside them; None for all.
    """
    title = metrics.title(metric)
    fastest = min(point.latency.low for point in models)
    slowest = max(point.latency.high for point in models)
    worst = min(point.accuracy.low for point in models)
    best = max(point.accuracy.high for point in models)
    room = (best - worst) * 0.12 or 0.01
    label: Callable[[float], str] = "{:.3g}".format
    if metrics.unit(metric) == "%":
        label = wording.share
    latency = Axis(TITLE, fastest / 1.35, slowest * 1.35, "{:g}".format, log=True)
    score = Axis(title, worst - room, best + room, label)
    plot = Plot(name, width, HEIGHT, f"{title} against latency", x=latency, y=score)
    _draw_front(plot, models)
    taken: list[Box] = []
    for point in models:
        words = _describe(point, metric)
        with plot.tooltip(words):
            box = plot.point(point.latency, point.accuracy, point.candidate)
            taken.append(box)
        milliseconds = wording.milliseconds(point.latency.value)
        shown = wording.score(point.accuracy.value, metric)
        summary = f"{point.name}: {milliseconds}, {shown}"
        plot.descriptions.append(summary)
    for point in sorted(models, key=lambda point: not point.candidate):
        if named is None or point.name in named:
            place = plot.place(point.latency.value, point.accuracy.value)
            font = style(point.candidate).font
            plot.name_point(place, point.name, font, taken)
    return plot.svg()


def _draw_front(plot: Plot, models: list[facts.Point]) -> None:
    """Join the points of the Pareto front by steps, and the slowest one with the right end."""
    corners: list[Point] = []
    level = 0.0
    for point in facts.pareto(models):
        x, y = plot.place(point.latency.value, point.accuracy.value)
        if corners:
            corners.append((x, level))
        corners.append((x, y))
        level = y
    corners.append((plot.area.right, level))
    with plot.tooltip("Pareto front"):
        plot.curve(corners, MUTED, 1, "2 3")


def _describe(point: facts.Point, metric: str) -> str:
    score, worst, best = (wording.score(value, metric) for value in point.accuracy)
    latency = wording.milliseconds(point.latency.value)
    fastest = wording.significant(point.latency.low)
    slowest = wording.milliseconds(point.latency.high)
    scores = wording.span(worst, best)
    times = wording.span(fastest, slowest)
    words = f"{point.name}: {score} ({scores})"
    words += f", p50 {latency} ({times})"
    return words
