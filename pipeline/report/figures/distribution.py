"""The distribution of latencies: the share of calls completed within a time (ECDF)."""

from __future__ import annotations

from itertools import chain

from pipeline.measure.measurements import CANDIDATE
from pipeline.report import facts, wording
from pipeline.report.figures.chart import HEIGHT, Axis, Plot, fit, style

STEPS = 160
"""Points per curve, whatever the number of samples."""
MARKED = (50, 95)
SHARES = Axis(
    "Share of calls completed within", 0, 1, wording.share, ticks=(0, 0.25, 0.5, 0.75, 0.95)
)
ROOM = (62, 62)
"""Pixels kept free on both sides for the labels of the marks."""


def distribution(samples: dict[str, list[list[float]]], width: int, name: str) -> str:
    """Return a curve for each model.

    The time axis is logarithmic and ends at the 99.5th percentile, so that one outlier does not
    flatten the rest.

    Args:
        samples: Model -> (processes, calls) in ms, at least one call each.
        width: The width in pixels.
        name: A name that is unique in the page.
    """
    series = {model: sorted(chain(*calls)) for model, calls in samples.items()}
    fastest_call = min(calls[0] for calls in series.values())
    slowest_call = max(_quantile(calls, 0.995) for calls in series.values())
    low = fastest_call / 1.05
    high = slowest_call * 1.05
    times = Axis("latency in ms (log scale)", low, high, "{:g}".format, log=True, inset=ROOM)
    plot = Plot(name, width, HEIGHT, "Latency distribution", x=times, y=SHARES)
    for model, calls in series.items():
        points = [(calls[0], 0.0)]
        for step in range(1, STEPS + 1):
            share = step / STEPS
            time = _quantile(calls, share - 1e-9)
            points.append((min(time, high), share))
        plot.series(points, style(model == CANDIDATE))
    fastest = min(series, key=lambda model: _quantile(series[model], 0.5))
    for model, calls in series.items():
        _mark_percentiles(plot, model, calls, model == fastest)
        median = facts.median([calls]) or 0.0
        plot.descriptions.append(f"{model}: p50 {wording.milliseconds(median)}")
    return plot.svg()


def _quantile(calls: list[float], share: float) -> float:
    index = int(share * len(calls))
    return calls[min(index, len(calls) - 1)]


def _mark_percentiles(plot: Plot, model: str, calls: list[float], fastest: bool) -> None:
    """Mark p50 and p95 if there are enough samples, on the side away from the other curve."""
    candidate = model == CANDIDATE
    font = style(candidate).font
    for percent in MARKED:
        value = facts.percentile([calls], percent)
        if value is None:
            continue
        x, y = plot.place(value, percent / 100)
        plot.dot(x, y, candidate)
        lines = [f"p{percent} {wording.significant(value)}"]
        if percent == 50:
            lines.append(fit(model, 92))
        for line in lines:
            if fastest:
                plot.text(x - 10, y, line, font, "end")
            else:
                plot.text(x + 10, y + 12, line, font)
            y += 15
