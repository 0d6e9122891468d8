"""The report's figures as standalone pictures, for a notebook or a README."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from rarefy.pipeline.report import facts
from rarefy.pipeline.report.figures import chart
from rarefy.pipeline.report.figures.distribution import distribution
from rarefy.pipeline.report.figures.ledger import ledger
from rarefy.pipeline.report.figures.tradeoff import tradeoff
from rarefy.pipeline.verdict.record import ReportData

MARGIN: Final = 16
WIDE, HALF = 960 - 2 * MARGIN, 560 - 2 * MARGIN
THEMES: Final = {
    "light": {
        "surface": "#fcfbf9",
        "ink": "#1d1c1a",
        "muted": "#625e58",
        "line": "#e2ded6",
        "accent": "#0b6b66",
        "other": "#87817a",
        "limit": "#a3420f",
    },
    "dark": {
        "surface": "#161719",
        "ink": "#ecebe7",
        "muted": "#a8a49d",
        "line": "#34353a",
        "accent": "#5ecbc1",
        "other": "#8f8b85",
        "limit": "#f0a070",
    },
}


def pictures(data: ReportData, theme: str = "light") -> dict[str, str]:
    """Return name -> SVG with its own background, for every figure that the run has data for.

    Raises KeyError if ``theme`` is neither "light" nor "dark".
    """
    figures: dict[str, Callable[[int, str], str]] = {}
    if data.ledger:
        figures["ledger"] = partial(ledger, data)
    if data.measurements is not None:
        main = data.measurements.main
        for target in data.measurements.latency:
            points = facts.points(data, target)
            samples = facts.compared_samples(data, target)
            if points:
                figures[f"tradeoff {target}"] = partial(tradeoff, points, metric=main)
            if samples:
                figures[f"latency {target}"] = partial(distribution, samples)
    drawn = {}
    for name, figure in figures.items():
        picture = figure(WIDE if name == "ledger" else HALF, name.replace(" ", "-"))
        drawn[name] = stand_alone(picture, theme)
    return drawn


def stand_alone(picture: str, theme: str) -> str:
    """Return a picture with fixed colours instead of the page's, a margin and a background.

    Raises KeyError if ``theme`` is neither "light" nor "dark".
    """
    return chart.stand_alone(picture, THEMES[theme], MARGIN)
