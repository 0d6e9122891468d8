"""The distribution of latencies: the share of calls completed within a time (ECDF)."""

from __future__ import annotations

import itertools

from pipeline.measure.measurements import CANDIDATE
from pipeline.report import facts, wording
from pipeline.report.figures import svg
from pipeline.report.figures.axes import HEIGHT, Rule, axes, frame
from pipeline.report.figures.svg import PAGE

STEPS = 160
"""Points per curve, whatever the number of samples."""
MARKED = (50, 95)
ROOM = 62
"""Pixels kept free on both sides for the labels of the marks."""


def distribution(samples: dict[str, list[list[float]]], width: int, name: str) -> str:
    """Return the curves; ``samples``: model -> process × calls in ms, at least one call each.

    The time axis is logarithmic and ends at the 99.5th percentile, so that one outlier does not
    flatten the rest.
    """
    from pipeline.measure.statistics import percentile_of

    series = {model: sorted(itertools.chain(*calls)) for model, calls in samples.items()}
    left, right, top, bottom = inside = frame(width)
    low = min(calls[0] for calls in series.values()) / 1.05
    high = max(_at(calls, 0.995) for calls in series.values()) * 1.05
    across = svg.log(low, high, left + ROOM, right - ROOM)
    up = svg.linear(0, 1, bottom, top)
    titles = ("Share of calls completed within", "latency in ms (log scale)")
    rules = [
        Rule(up(percent / 100), f"{percent}{wording.NBSP}%", "" if percent in MARKED else "1 3")
        for percent in (0, 25, 50, 75, 95)
    ]
    marks = [(across(value), f"{value:g}") for value in svg.log_ticks(low, high)]
    parts = [axes(inside, titles, rules, marks)]
    fastest = min(series, key=lambda model: _at(series[model], 0.5))
    for model, calls in series.items():
        parts.append(_curve(calls, model == CANDIDATE, across, up, high))
    for model, calls in series.items():
        parts.append(_marks(model, calls, model == fastest, across, up))
    description = "; ".join(
        f"{model}: p50 {wording.milliseconds(percentile_of(calls, 50))}"
        for model, calls in samples.items()
    )
    return svg.document(name, width, HEIGHT, "Latency distribution", description, "".join(parts))


def _at(samples: list[float], share: float) -> float:
    return samples[min(int(share * len(samples)), len(samples) - 1)]


def _curve(
    samples: list[float],
    candidate: bool,
    across: svg.Scale,
    up: svg.Scale,
    high: float,
) -> str:
    commands = f"M{across(samples[0]):.1f} {up(0):.1f}"
    for step in range(1, STEPS + 1):
        value = min(_at(samples, step / STEPS - 1e-9), high)
        commands += f"L{across(value):.1f} {up(step / STEPS):.1f}"
    if candidate:
        return svg.path(commands, PAGE.accent, 2.5)
    return svg.path(commands, PAGE.other, 2, "6 3")


def _marks(
    model: str,
    samples: list[float],
    left_side: bool,
    across: svg.Scale,
    up: svg.Scale,
) -> str:
    """Mark p50 and p95 if there are enough samples, on the side away from the other curve."""
    own = model == CANDIDATE
    colour = PAGE.accent if own else PAGE.ink
    weight = 650 if own else 400
    aside, anchor = (-10, "end") if left_side else (10, "start")
    parts = []
    for percent in MARKED:
        value = facts.percentile([samples], percent)
        if value is None:
            continue
        x, y = across(value), up(percent / 100)
        shown = f"p{percent} {wording.significant(value)}"
        parts.append(svg.mark(x, y, own))
        drop = 4 if left_side else 16
        parts.append(svg.text(x + aside, y + drop, shown, colour, anchor=anchor, weight=weight))
        if percent == 50:
            name = svg.fit(model, 92, 12)
            parts.append(
                svg.text(x + aside, y + drop + 15, name, colour, anchor=anchor, weight=weight)
            )
    return "".join(parts)
