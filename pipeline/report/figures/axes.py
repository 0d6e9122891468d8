"""The axes that figures share: horizontal rules with their labels, and ticks below."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pipeline.report.figures import svg
from pipeline.report.figures.svg import PAGE

HEIGHT = 320.0


class Frame(NamedTuple):
    """The plot area of a figure, in pixels."""

    left: float
    right: float
    top: float
    bottom: float


class Rule(NamedTuple):
    """A horizontal line: its position, its label, and its dash pattern."""

    y: float
    words: str
    dash: str = ""


def frame(width: int) -> Frame:
    """Return the frame of a figure that is ``width`` pixels wide and ``HEIGHT`` high."""
    return Frame(52.0, width - 14.0, 26.0, HEIGHT - 50)


def axes(
    inside: Frame,
    titles: tuple[str, str],
    rules: Iterable[Rule],
    marks: Iterable[tuple[float, str]],
) -> str:
    """Return both axes; ``titles``: of the vertical axis (at its top) and the horizontal one.

    ``marks``: positions and labels of the ticks on the horizontal axis.
    """
    left, right, _, bottom = inside
    parts = [svg.text(0, 12, titles[0], PAGE.muted, size=11.5)]
    for y, words, dash in rules:
        parts.append(svg.line(left, y, right, y, PAGE.line, 1, dash))
        parts.append(svg.text(left - 8, y + 4, words, PAGE.muted, size=11.5, anchor="end"))
    for x, words in marks:
        parts.append(svg.line(x, bottom, x, bottom + 5, PAGE.muted))
        parts.append(svg.text(x, bottom + 18, words, PAGE.muted, size=11.5, anchor="middle"))
    parts.append(svg.line(left, bottom, right, bottom, PAGE.muted))
    parts.append(svg.text(left, bottom + 40, titles[1], PAGE.muted, size=11.5))
    return "".join(parts)
