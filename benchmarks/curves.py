"""The picture of what pruning costs: accuracy against the measured speed-up."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.report import wording
from pipeline.report.figures import svg
from pipeline.report.figures.axes import HEIGHT, Rule, axes, frame
from pipeline.report.figures.svg import PAGE
from pipeline.report.pictures import WIDE, stand_alone

APART = 15.0
"""Pixels between the names of two curves."""


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
    inside = frame(WIDE)
    places = [place for curve in curves for place in curve.places]
    least, most = (pick(place.accuracy for place in places) for pick in (min, max))
    room = 0.08 * (most - least)
    right = inside.right - 220  # the names stand there
    fastest = max(place.speedup for place in places)
    across = svg.linear(1, fastest, inside.left + 10, right)
    up = svg.linear(least - room, most + room, inside.bottom, inside.top)
    rules = [
        Rule(up(value), f"{100 * value:.3g}{wording.NBSP}%")
        for value in svg.ticks(least - room, most + room, 5)
    ]
    marks = [(across(value), f"{value:.1f}×") for value in svg.ticks(1, fastest, 6)]
    titles = ("Accuracy", "times faster than before, in int8 · faster →")
    parts = [axes(inside, titles, rules, marks)]
    parts += [_curve(curve, across, up) for curve in curves]
    ends = sorted(curves, key=lambda curve: up(curve.places[-1].accuracy))
    height = inside.top
    for curve in ends:
        height = max(up(curve.places[-1].accuracy), height + APART)
        colour = PAGE.accent if curve.ours else PAGE.ink
        parts.append(svg.text(right + 16, height + 4, curve.name, colour))
    said = "; ".join(
        f"{curve.name}: "
        + ", ".join(f"{place.accuracy:.1%} at {place.speedup:.2f}×" for place in curve.places)
        for curve in curves
    )
    return svg.document("pruning", WIDE, HEIGHT, "Accuracy against speed-up", said, "".join(parts))


def _curve(curve: Curve, across: svg.Scale, up: svg.Scale) -> str:
    points = [(across(place.speedup), up(place.accuracy)) for place in curve.places]
    colour, dash = (PAGE.accent, "") if curve.ours else (PAGE.other, "6 3")
    body = svg.path("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), colour, 2, dash)
    return svg.group(curve.name, body + "".join(svg.mark(x, y, curve.ours) for x, y in points))
