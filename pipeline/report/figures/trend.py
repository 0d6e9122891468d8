"""One number over a recipe's verdicts: values, intervals, budgets and changes of machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from rarefy.pipeline.report import series, wording
from rarefy.pipeline.report.figures.chart import (
    ACCENT,
    INK,
    LIMIT,
    MUTED,
    OTHER,
    OUTCOMES,
    SURFACE,
    Axis,
    Chart,
    Font,
    Plot,
    Point,
    ticks,
)
from rarefy.pipeline.terms.outcomes import Outcome
from rarefy.pipeline.verdict.history_numbers import Key, Past, Reading, comparable

WIDTH, HEIGHT = 310, 184
MOST_APART = 56.0
"""Pixels between two columns, at most."""
REQUIREMENT: Final = Font(LIMIT, 11)
_UNITS: Final[dict[str, tuple[tuple[float, str], ...]]] = {
    "%": ((0.01, "%"),),
    "points": ((0.01, "points"),),
    "B": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")),
    "": ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")),
}
"""Unit -> the units that an axis may have, the largest first, with their size."""


@dataclass(frozen=True)
class Column:
    """One verdict in the chart: its machine's letter, its reading, and the tags moved to it."""

    past: Past
    letter: str
    reading: Reading | None
    tags: tuple[str, ...] = ()

    @property
    def value(self) -> float | None:
        """The reading's value; None if there is none."""
        if self.reading:
            return self.reading.value
        return None

    @property
    def limits(self) -> dict[str, float]:
        """The limits of the reading's budgets, by their forms."""
        if self.reading:
            return self.reading.limits
        return {}


def trend(key: Key, columns: Sequence[Column], name: str) -> str:
    """Return the chart; every verdict has a column, even without a reading.

    Args:
        key: The number that is drawn.
        columns: The verdicts, oldest first, at least one.
        name: A name that is unique in the page.
    """
    last = max(len(columns) - 1, 1)
    first_day = columns[0].past.time[:10]
    last_day = columns[-1].past.time[:10]
    days = first_day
    if first_day != last_day:
        days = f"{first_day} to {last_day}"
    free = max(WIDTH - 82 - MOST_APART * last, 0.0)
    x = Axis(days, 0, last, str, ticks=(), inset=(8 + free, 8))
    y = _axis(key, columns)
    plot = Plot(name, WIDTH, HEIGHT, series.title(key), x=x, y=y)
    _draw_machines(plot, columns)
    _draw_limits(plot, key, columns)
    _draw_intervals(plot, columns)
    _join(plot, key, columns)
    for index, column in enumerate(columns):
        if column.reading:
            words = _tooltip(key, column, column.reading)
            with plot.tooltip(words):
                _draw_column(plot, index, column)
    plot.descriptions = _describe(key, columns)
    return plot.svg()


def _axis(key: Key, columns: Sequence[Column]) -> Axis:
    """Return the vertical axis: it shows every interval, and the limits that are near them."""
    ends: list[float] = []
    limits: list[float] = []
    for column in columns:
        limits += column.limits.values()
        if column.reading and column.value is not None:
            ends += column.reading.bounds
    values = ends or limits or [0.0, 1.0]
    low = min(values)
    high = max(values)
    near = 1.5 * (high - low) or 0.1 * abs(high) or 1.0
    values += [limit for limit in limits if low - near <= limit <= high + near]
    low = min(values)
    high = max(values)
    room = 0.1 * (high - low) or 0.05 * abs(high) or 0.5
    greatest = max(abs(low), abs(high))
    scale, unit = _unit(key, greatest)
    low, high = low - room, high + room
    marks = ticks(low / scale, high / scale, 4)
    step = 1.0
    if len(marks) > 1:
        step = marks[1] - marks[0]
    power = math.floor(math.log10(step) + 1e-9)
    decimals = max(0, -power)

    def label(value: float) -> str:
        number = f"{value / scale:,.{decimals}f}"
        return number.replace("-", "−")

    return Axis(unit, low, high, label, ticks=[mark * scale for mark in marks])


def _unit(key: Key, size: float) -> tuple[float, str]:
    """Return the largest unit, and its size, in which the greatest value is not below 1."""
    unit = series.unit(key)
    units = _UNITS.get(unit, ((1.0, unit),))
    return next((choice for choice in units if size >= choice[0]), units[-1])


def _moves(columns: Sequence[Column]) -> list[int]:
    """Return the columns at which the machine changes."""
    moves = []
    for index, (before, after) in enumerate(pairwise(columns), start=1):
        if before.letter != after.letter:
            moves.append(index)
    return moves


def _draw_machines(plot: Plot, columns: Sequence[Column]) -> None:
    """Draw a rule wherever the machine changes."""
    for index in _moves(columns):
        x = plot.across(index - 0.5)
        with plot.tooltip(f"machine {columns[index].letter} from here on"):
            plot.line((x, plot.area.top), (x, plot.area.bottom), MUTED, 1, "1 3")


def _draw_limits(plot: Plot, key: Key, columns: Sequence[Column]) -> None:
    """Draw the limits of each budget as a step line, with the latest one in words at the top."""
    forms: dict[str, float] = {}
    for column in columns:
        forms |= column.limits
    requirements = []
    for form, latest in forms.items():
        bound = "at most"
        if form.startswith("min"):
            bound = "at least"
        required = f"{bound} {series.limit(key, latest)}"
        with plot.tooltip(f"budget: {required}"):
            limits = [column.limits.get(form) for column in columns]
            for run in _limit_runs(plot, limits):
                plot.curve(run, LIMIT, 1.3, "4 3")
        if latest > plot.y.high:
            required += " ↑"
        elif latest < plot.y.low:
            required += " ↓"
        requirements.append(required)
    if requirements:
        words = ", ".join(requirements)
        plot.text(plot.area.right, 6, words, REQUIREMENT, "end")


def _limit_runs(plot: Plot, limits: Sequence[float | None]) -> list[list[Point]]:
    """Return the corners of the step lines through the limits that are on the scale."""
    half = (plot.across(1) - plot.across(0)) / 2
    runs: list[list[Point]] = [[]]
    for index, limit in enumerate(limits):
        if limit is None or not plot.y.low <= limit <= plot.y.high:
            runs.append([])
            continue
        x, y = plot.place(index, limit)
        left = max(x - half, plot.area.left)
        right = min(x + half, plot.area.right)
        runs[-1] += [(left, y), (right, y)]
    return [run for run in runs if run]


def _draw_intervals(plot: Plot, columns: Sequence[Column]) -> None:
    for index, column in enumerate(columns):
        if column.reading is None or column.value is None:
            continue
        low, high = column.reading.bounds
        if low != high:
            start = plot.place(index, low)
            end = plot.place(index, high)
            plot.whisker(start, end, OTHER, 1.4, cap=0)


def _join(plot: Plot, key: Key, columns: Sequence[Column]) -> None:
    """Join neighbouring values that can be compared."""
    runs: list[list[Point]] = []
    before: Past | None = None
    for index, column in enumerate(columns):
        if column.value is None:
            before = None
            continue
        if before is None or not comparable(key, before, column.past):
            runs.append([])
        runs[-1].append(plot.place(index, column.value))
        before = column.past
    for run in runs:
        plot.curve(run, ACCENT, 1.8)


def _draw_column(plot: Plot, index: int, column: Column) -> None:
    """Draw one verdict's mark; its whole column shows the tooltip."""
    assert column.reading is not None
    top = plot.area.top
    bottom = plot.area.bottom
    x = plot.across(index)
    left = plot.across(index - 0.5)
    right = plot.across(index + 0.5)
    plot.bar((left, top), right - left, bottom - top, "transparent")
    if column.tags:  # a triangle below the axis: promoted
        tip = (x, bottom + 2)
        plot.polygon([tip, (x + 4, bottom + 9), (x - 4, bottom + 9)], INK, INK, 0)
    y = bottom - 5
    if column.value is not None:
        y = plot.up(column.value)
    draw_outcome(plot, x, y, column.reading.outcome)


def draw_outcome(chart: Chart, x: float, y: float, outcome: Outcome | None) -> None:
    """Draw a dot for pass, a cross for fail, a diamond for inconclusive, a ring for no budget.

    Args:
        chart: The chart to draw in.
        x: The centre, in pixels.
        y: The centre, in pixels.
        outcome: The outcome; None if there is no budget.
    """
    if outcome == "fail":
        left, right = x - 4, x + 4
        top, bottom = y - 4, y + 4
        for colour, width in ((SURFACE, 5), (OUTCOMES["fail"], 2.4)):
            chart.line((left, top), (right, bottom), colour, width)
            chart.line((left, bottom), (right, top), colour, width)
    elif outcome == "inconclusive":
        chart.diamond(x, y, 5, SURFACE, OUTCOMES["inconclusive"], 1.8)
    elif outcome == "pass":
        chart.circle(x, y, 3.2, ACCENT, ACCENT, 0)
    else:
        chart.circle(x, y, 3.2, SURFACE, ACCENT, 1.5)


def _tooltip(key: Key, column: Column, reading: Reading) -> str:
    past = column.past
    value = "no value"
    if reading.value is not None:
        value = series.shown(key, reading.value)
    bounds = series.interval(key, reading)
    if bounds:
        value += f" ({bounds})"
    parts = [wording.minute(past.time), value, reading.outcome or "no budget"]
    if past.bundle:
        parts.append(f"bundle {past.bundle[:12]}")
    parts += [f"promoted to {tag}" for tag in column.tags]
    if past.again:
        parts.append("judged again, not measured again")
    if reading.value is None:
        parts += reading.reasons[:1]
    parts += past.evidence[:1]
    return wording.shorten(" · ".join(parts), 160)


def _describe(key: Key, columns: Sequence[Column]) -> list[str]:
    """Return the chart in words, for screen readers."""
    values = [column.value for column in columns if column.value is not None]
    if not values:
        return ["No verdict has a value."]
    latest, least, most = (
        series.shown(key, value) for value in (values[-1], min(values), max(values))
    )
    return [f"{len(values)} verdicts", f"latest {latest}", f"between {least} and {most}"]
