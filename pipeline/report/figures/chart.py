"""Charts as SVG text: marks, axes with round ticks, and the page's colours in two themes.

A figure says what is drawn; this module draws it. It loads no plotting library: a report is one
file that runs no script, and its colours are CSS variables, so that it follows the reader's theme.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any, Final, Literal, NamedTuple

from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.outcomes import Outcome

Anchor = Literal["middle", "end"]
Attribute = str | float | None
Point = tuple[float, float]
"""x and y."""
NAMESPACE: Final = "http://www.w3.org/2000/svg"
SANS: Final = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
HEIGHT: Final = 320.0
"""The usual height of a chart with two axes, in pixels."""
SURFACE: Final = "var(--surface)"
INK: Final = "var(--ink)"
MUTED: Final = "var(--muted)"
LINE: Final = "var(--line)"
ACCENT: Final = "var(--accent)"
OTHER: Final = "var(--other)"
LIMIT: Final = "var(--limit)"
OUTCOMES: Final[dict[Outcome, str]] = {
    "pass": "var(--pass)",
    "inconclusive": "var(--inconclusive)",
    "fail": "var(--fail)",
}
"""The colours of outcomes."""
ROUND: Final = (1, 2, 5, 10)
LETTER: Final = 0.58
"""The average width of a letter in a wide system font, as a multiple of its size."""
DROPS: Final = (0, -16, 16, -32, 32)
"""By how many pixels the name of a point may stand lower than the point."""


class Font(NamedTuple):
    """How a text is written: its size in pixels, its weight (650 is bold, None is regular)."""

    colour: str = INK
    size: float = 12
    weight: int | None = None


PLAIN: Final = Font()
BOLD: Final = Font(ACCENT, 12, 650)
NOTE: Final = Font(MUTED, 11.5)


class Style(NamedTuple):
    """How a model is drawn: the colour of its marks, the stroke of its curve, its name's font."""

    colour: str
    font: Font
    stroke: float
    dash: str | None


CANDIDATE_STYLE: Final = Style(ACCENT, BOLD, 2.5, None)
REFERENCE_STYLE: Final = Style(OTHER, PLAIN, 2, "6 3")


def style(candidate: bool) -> Style:
    """Return the style of the candidate, or of any other model."""
    if candidate:
        return CANDIDATE_STYLE
    return REFERENCE_STYLE


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Return the area that both cover, in square pixels."""
        left = max(self.left, other.left)
        right = min(self.right, other.right)
        top = max(self.top, other.top)
        bottom = min(self.bottom, other.bottom)
        return max(right - left, 0.0) * max(bottom - top, 0.0)


@dataclass(frozen=True)
class Scale:
    """The map from values in low..high to pixels in start..end, linear or logarithmic.

    If ``low`` equals ``high``, all values are in the middle. If ``log``, both are above 0.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low = self.low
        high = self.high
        if low == high:
            return (self.start + self.end) / 2
        if self.log:
            low = math.log(low)
            high = math.log(high)
            value = math.log(value)
        share = (value - low) / (high - low)
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True)
class Axis:
    """An axis of a plot.

    ``label``  formats a tick
    ``log``    whether it is logarithmic
    ``ticks``  the values that have a tick; None for round ones
    ``inset``  pixels kept free at its start and at its end
    """

    title: str
    low: float
    high: float
    label: Callable[[float], str]
    log: bool = False
    ticks: Sequence[float] | None = None
    inset: Point = (0, 0)

    def scale(self, start: float, end: float) -> Scale:
        """Return the map from its values to the pixels from ``start`` to ``end``."""
        before, after = self.inset
        return Scale(self.low, self.high, start + before, end - after, self.log)

    def labels(self) -> list[tuple[float, str]]:
        """Return its ticks with their labels."""
        values = self.ticks
        if values is None:
            choose = log_ticks if self.log else ticks
            values = choose(self.low, self.high)
        return [(value, self.label(value)) for value in values]


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round values in low..high whose step is 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    least = (high - low) / about
    power = 10.0 ** math.floor(math.log10(least))
    steps = [factor * power for factor in ROUND]
    step = next(step for step in steps if step >= least * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten in low..high; linear ticks if there are under three."""
    values = []
    power = 10.0 ** math.floor(math.log10(low))
    while power <= high:
        steps = [factor * power for factor in ROUND[:3]]
        values += [step for step in steps if low <= step <= high]
        power *= 10
    if len(values) >= 3:
        return values
    return ticks(low, high, 3)


def fit(content: str, pixels: float, size: float = 12) -> str:
    """Cut a text to about ``pixels``, by the average width of a letter."""
    letters = max(int(pixels / (LETTER * size)), 2)
    if len(content) <= letters:
        return content
    return content[: letters - 1] + "…"


def least_covered(places: Sequence[Box], taken: Sequence[Box]) -> Box:
    """Return the first of the places that overlaps least with what is drawn already."""

    def covered(place: Box) -> float:
        overlaps = [place.overlap(box) for box in taken]
        return sum(overlaps)

    return min(places, key=covered)


class Chart:
    """A picture to which marks are added, the later ones above the earlier ones.

    All positions and lengths are in pixels, from the upper left corner. Texts are escaped.
    """

    def __init__(self, name: str, width: float, height: float, title: str = "") -> None:
        """Make an empty chart; ``name`` must be unique in the page: ids are made from it."""
        self.name = name
        self.width = width
        self.height = height
        self.title = title
        self.descriptions: list[str] = []
        """What a screen reader says after the title."""
        self._elements: list[str] = []

    def text(
        self, x: float, y: float, content: str, font: Font = PLAIN, anchor: Anchor | None = None
    ) -> None:
        """Add a line of text.

        Args:
            x: Where it starts, or where its middle or end is.
            y: The middle of its height.
            content: The text.
            font: How it is written.
            anchor: Which part of it is at ``x``; None for its start.
        """
        self._add(
            "text",
            escape(content),
            x=x,
            y=y + 0.34 * font.size,
            fill=font.colour,
            font_size=font.size,
            font_weight=font.weight,
            text_anchor=anchor,
        )

    def label(self, box: Box, content: str, font: Font, anchor: Anchor | None) -> None:
        """Add a text at the left or right end of a box; it interrupts the lines behind it."""
        x = box.left
        if anchor == "end":
            x = box.right
        middle = (box.top + box.bottom) / 2
        self._open("g", paint_order="stroke", stroke=SURFACE, stroke_width=4)
        self.text(x, middle, content, font, anchor)
        self._elements.append("</g>")

    def line(
        self, start: Point, end: Point, colour: str, width: float = 1, dash: str | None = None
    ) -> None:
        """Add a straight line."""
        (x1, y1), (x2, y2) = start, end
        stroke = _stroke(colour, width, dash)
        self._add("line", x1=x1, y1=y1, x2=x2, y2=y2, **stroke)

    def path(self, commands: str, colour: str, width: float, dash: str | None = None) -> None:
        """Add an unfilled path; ``commands``: as in the attribute ``d`` of SVG's path."""
        stroke = _stroke(colour, width, dash)
        self._add("path", d=commands, fill="none", **stroke, stroke_linejoin="round")

    def curve(
        self, points: Iterable[Point], colour: str, width: float, dash: str | None = None
    ) -> None:
        """Add straight lines from point to point."""
        self.path(_commands(points), colour, width, dash)

    def bar(self, corner: Point, width: float, height: float, colour: str) -> None:
        """Add a filled rectangle, at least a pixel wide so that a small value is visible."""
        x, y = corner
        visible = max(width, 1)
        self._add("rect", x=x, y=y, width=visible, height=height, rx=1.5, fill=colour)

    def polygon(self, points: Iterable[Point], fill: str, stroke: str, width: float = 1) -> None:
        """Add a filled polygon; ``width``: that of its outline."""
        outline = _commands(points) + "z"
        self._add("path", d=outline, fill=fill, stroke=stroke, stroke_width=width)

    def diamond(
        self, x: float, y: float, arm: float, fill: str, stroke: str, width: float = 1
    ) -> None:
        """Add a filled diamond.

        Args:
            x: Its centre, in pixels.
            y: Its centre, in pixels.
            arm: The pixels from its centre to its corners.
            fill: The colour inside.
            stroke: The colour of its outline.
            width: The width of its outline.
        """
        points = [(x, y - arm), (x + arm, y), (x, y + arm), (x - arm, y)]
        self.polygon(points, fill, stroke, width)

    def circle(
        self, x: float, y: float, radius: float, fill: str, stroke: str, width: float
    ) -> None:
        """Add a filled circle.

        Args:
            x: Its centre, in pixels.
            y: Its centre, in pixels.
            radius: Its radius.
            fill: The colour inside.
            stroke: The colour of its outline.
            width: The width of its outline.
        """
        self._add("circle", cx=x, cy=y, r=radius, fill=fill, stroke=stroke, stroke_width=width)

    def dot(self, x: float, y: float, candidate: bool) -> None:
        """Add a filled diamond for the candidate, a hollow circle for any other model."""
        if candidate:
            self.diamond(x, y, 6, ACCENT, SURFACE)
        else:
            self.circle(x, y, 4.2, SURFACE, OTHER, 2)

    def whisker(
        self, start: Point, end: Point, colour: str, width: float = 1.5, cap: float = 4
    ) -> None:
        """Add an interval.

        Args:
            start: One end, in pixels.
            end: The other end, on a level with the first or upright to it.
            colour: Its colour.
            width: The width of its line.
            cap: The pixels of the bar across each end, to each side.
        """
        commands = _commands((start, end))
        across, down = cap, 0.0
        if start[0] != end[0]:
            across, down = 0.0, cap
        for x, y in (start, end):
            first = x - across, y - down
            last = x + across, y + down
            if cap:
                commands += _commands((first, last))
        self.path(commands, colour, width)

    @contextmanager
    def tooltip(self, content: str) -> Iterator[None]:
        """Give a tooltip, which needs no script, to all that is added in the ``with`` block."""
        self._open("g")
        self._add("title", escape(content))
        yield
        self._elements.append("</g>")

    def svg(self) -> str:
        """Return the SVG element; a screen reader says the title and the descriptions."""
        title_id = f"{self.name}-title"
        words_id = f"{self.name}-desc"
        words = "; ".join(self.descriptions)
        content = _element("title", escape(self.title), id=title_id)
        content += _element("desc", escape(words), id=words_id)
        content += "".join(self._elements)
        labels = f"{title_id} {words_id}"
        attributes = {"role": "img", "aria_labelledby": labels, "font_family": SANS}
        return _svg(self.width, self.height, content, **attributes)

    def _add(self, tag: str, content: str = "", **attributes: Attribute) -> None:
        self._elements.append(_element(tag, content, **attributes))

    def _open(self, tag: str, **attributes: Attribute) -> None:
        self._elements.append(_start(tag, attributes))


class Plot(Chart):
    """A chart with two axes: marks are placed by their values."""

    def __init__(
        self, name: str, width: float, height: float, title: str, *, x: Axis, y: Axis
    ) -> None:
        """Draw both axes; each tick of the vertical one has a rule across the plot.

        Args:
            name: A name that is unique in the page.
            width: The width of the chart in pixels.
            height: Its height in pixels.
            title: What a screen reader says first.
            x: The horizontal axis.
            y: The vertical axis.
        """
        super().__init__(name, width, height, title)
        self.x = x
        self.y = y
        below = 32.0
        if x.labels():
            below = 50.0
        self.area = Box(52.0, 26.0, width - 14.0, height - below)
        left, top, right, bottom = self.area
        self.across = x.scale(left, right)
        self.up = y.scale(bottom, top)
        self.text(0, 8, y.title, NOTE)
        for value, label in y.labels():
            level = self.up(value)
            self.line((left, level), (right, level), LINE)
            self.text(left - 8, level, label, NOTE, "end")
        for value, label in x.labels():
            at = self.across(value)
            self.line((at, bottom), (at, bottom + 5), MUTED)
            self.text(at, bottom + 14, label, NOTE, "middle")
        self.line((left, bottom), (right, bottom), MUTED)
        self.text(left, height - 14, x.title, NOTE)

    def place(self, x: float, y: float) -> Point:
        """Return the pixels of a point."""
        return self.across(x), self.up(y)

    def series(self, points: Iterable[Point], style: Style) -> None:
        """Add a curve through points given by their values."""
        places = [self.place(x, y) for x, y in points]
        self.curve(places, style.colour, style.stroke, style.dash)

    def point(self, x: Interval, y: Interval, candidate: bool) -> Box:
        """Add a model's mark with both intervals; return what it covers."""
        at, level = self.place(x.value, y.value)
        left, bottom = self.place(x.low, y.low)
        right, top = self.place(x.high, y.high)
        colour = style(candidate).colour
        self.whisker((at, bottom), (at, top), colour)
        self.line((left, level), (right, level), colour, 1.5)
        self.dot(at, level, candidate)
        highest = min(top, level - 7)
        lowest = max(bottom, level + 7)
        return Box(at - 7, highest, at + 7, lowest)

    def name_point(self, place: Point, name: str, font: Font, taken: list[Box]) -> None:
        """Write a name beside a point where it overlaps least.

        Args:
            place: The point, in pixels.
            name: The name; it is cut if it is long.
            font: How it is written.
            taken: What is drawn already; the name's box is added.
        """
        x, y = place
        short = fit(name, 130)
        width = 7.2 * len(short)
        right = x + 10
        places = [Box(right, y - 7, right + width, y + 7)]
        for drop in DROPS:
            middle = y + drop
            for left in (right, x - 10 - width):
                if self.area.left <= left and left + width <= self.area.right:
                    places.append(Box(left, middle - 7, left + width, middle + 7))
        inside = places[1:] or places
        box = least_covered(inside, taken)
        taken.append(box)
        self.label(box, short, font, "end" if box.left < x else None)


def stand_alone(picture: str, colours: dict[str, str], margin: int) -> str:
    """Return a picture with fixed colours instead of the page's, a margin and a background.

    Args:
        picture: An SVG element that ``Chart.svg`` returned.
        colours: The colour of each variable of the page.
        margin: The pixels around it on each side.
    """
    for name, colour in colours.items():
        picture = picture.replace(f"var(--{name})", colour)
    size = re.search(r'width="(\S+)" height="(\S+)"', picture)
    assert size is not None, "every chart has a size"
    width = float(size[1]) + 2 * margin
    height = float(size[2]) + 2 * margin
    ground = _element("rect", width="100%", height="100%", rx=8, fill=colours["surface"])
    corner = f'<svg x="{margin}" y="{margin}" overflow="visible"'
    inside = picture.replace(f'<svg xmlns="{NAMESPACE}"', corner, 1)
    return _svg(width, height, ground + inside)


def _commands(points: Iterable[Point]) -> str:
    """Return the commands of a path from point to point."""
    places = [f"{x:.1f} {y:.1f}" for x, y in points]
    return "M" + "L".join(places)


def _stroke(colour: str, width: float, dash: str | None) -> dict[str, Any]:
    return {"stroke": colour, "stroke_width": width, "stroke_dasharray": dash}


def _svg(width: float, height: float, content: str, **attributes: Attribute) -> str:
    view = f"0 0 {width:g} {height:g}"
    attributes |= {"viewBox": view, "width": width, "height": height}
    return _element("svg", content, xmlns=NAMESPACE, **attributes)


def _element(tag: str, content: str = "", **attributes: Attribute) -> str:
    start = _start(tag, attributes)
    if content:
        return f"{start}{content}</{tag}>"
    return f"{start[:-1]}/>"


def _start(tag: str, attributes: dict[str, Attribute]) -> str:
    """Return a start tag; an attribute that is None is left out, a number has one decimal."""
    parts = [tag]
    for name, value in attributes.items():
        if value is None:
            continue
        shown = value
        if isinstance(value, float):
            shown = f"{round(value, 1):g}"
        attribute = name.replace("_", "-")
        parts.append(f'{attribute}="{shown}"')
    return f"<{' '.join(parts)}>"
