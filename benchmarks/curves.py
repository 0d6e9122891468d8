"""The picture of what pruning costs: accuracy against the measured speed-up."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.report import wording
from pipeline.report.figures.chart import HEIGHT, Axis, Font, Plot, style
from pipeline.report.pictures import WIDE, stand_alone

APART = 15.0
"""Pixels between the names of two curves."""
NAMES = 220.0
"""Pixels kept free at the right for the names."""
SPEEDUP = "times faster than before, in int8 · faster →"


class Place(NamedTuple):
    """What a model became: how many times faster, and its accuracy as a share."""

    speedup: float
    accuracy: float


class Curve(NamedTuple):
    """Places by falling accuracy, of pruning by latency (``ours``) or of another way."""

    name: str
    places: list[Place]
    ours: bool


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the rows of ``benchmarks.pruning``. Nothing is drawn of no rows."""
    curves = [*_untrained(rows), *_recovered(rows)]
    if curves:
        path.write_text(stand_alone(_picture(curves), "light"))


def _untrained(rows: list[dict[str, Any]]) -> Iterable[Curve]:
    """Yield each model as it was, and as pruned to each speed-up without training."""
    landed = [row for row in rows if "asked" in row]
    for model in dict.fromkeys(row["model"] for row in landed):
        own = [row for row in landed if row["model"] == model]
        places = [Place(row["speedup"]["value"], row["accuracy"]) for row in own]
        yield Curve(f"{model}, untrained", [Place(1.0, own[0]["before"]), *places], True)


def _recovered(rows: list[dict[str, Any]]) -> Iterable[Curve]:
    """Yield both ways of pruning after recovery, as means of the seeds."""
    compared = [row for row in rows if "comparison" in row]
    names = {"uneven": "after an epoch", "uniform": "after an epoch, equal shares"}
    for side, name in names.items():
        places = [
            Place(float(np.mean(row["speedup"][side])), float(np.mean(row["accuracy"][side])))
            for row in compared
        ]
        if places:
            yield Curve(f"6×384, {name}", places, side == "uneven")


def _picture(curves: list[Curve]) -> str:
    places = [place for curve in curves for place in curve.places]
    least = min(place.accuracy for place in places)
    most = max(place.accuracy for place in places)
    room = 0.08 * (most - least)
    fastest = max(place.speedup for place in places)
    speedup = Axis(SPEEDUP, 1, fastest, "{:.1f}×".format, inset=(10, NAMES))
    accuracy = Axis("Accuracy", least - room, most + room, wording.share)
    plot = Plot("pruning", WIDE, HEIGHT, "Accuracy against speed-up", x=speedup, y=accuracy)
    for curve in curves:
        with plot.tooltip(curve.name):
            plot.series(curve.places, style(curve.ours))
            for place in curve.places:
                plot.dot(*plot.place(*place), curve.ours)
        shown = [f"{place.accuracy:.1%} at {place.speedup:.2f}×" for place in curve.places]
        plot.descriptions.append(f"{curve.name}: {', '.join(shown)}")
    y = plot.area.top
    for curve in sorted(curves, key=lambda curve: -curve.places[-1].accuracy):
        y = max(plot.up(curve.places[-1].accuracy), y + APART)
        plot.text(plot.area.right - NAMES + 16, y, curve.name, Font(style(curve.ours).font.colour))
    return plot.svg()
