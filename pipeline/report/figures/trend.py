"""One number over a recipe's verdicts: values, intervals, budgets and changes of machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.report import series, wording
from pipeline.report.figures import svg
from pipeline.report.figures.svg import PAGE
from pipeline.terms.outcomes import Outcome
from pipeline.verdict.readings import Key, Past, Reading, comparable

WIDTH, HEIGHT = 310, 174
LEFT, RIGHT, TOP, BOTTOM = 47.0, 302.0, 18.0, 148.0
MANY = 40
"""With more verdicts than this, the marks are smaller."""
_UNITS: dict[str, tuple[tuple[float, str], ...]] = {
    "%": ((0.01, "%"),),
    "points": ((0.01, "points"),),
    "B": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")),
    "": ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")),
}


@dataclass(frozen=True)
class Column:
    """One verdict in the chart: its machine's letter, its reading, and the tags moved to it."""

    past: Past
    letter: str
    reading: Reading | None
    tags: tuple[str, ...] = ()


def trend(key: Key, columns: Sequence[Column], name: str) -> str:
    """Return the chart; every verdict has a column, even without a reading."""
    scale = _Scale(key, columns)
    parts = [_axes(scale, columns), _machines(scale, columns), _limits(scale, columns)]
    parts += [_whiskers(scale, columns), _joined(scale, columns)]
    parts += [_column(scale, index, column) for index, column in enumerate(columns)]
    return svg.document(
        name, WIDTH, HEIGHT, series.title(key), _description(key, columns), "".join(parts)
    ).replace(f'width="{WIDTH}" height="{HEIGHT}" ', "", 1)


class _Scale:
    """The positions of columns and values in the chart, and the ticks of the axis."""

    def __init__(self, key: Key, columns: Sequence[Column]) -> None:
        self.key = key
        self.step = min((RIGHT - LEFT - 16) / max(len(columns) - 1, 1), 56.0)
        self.many = len(columns) > MANY
        self.start = RIGHT - 8 - self.step * (len(columns) - 1)
        read = [column.reading for column in columns if column.reading]
        ends = [end for one in read if one.value is not None for end in one.bounds]
        limits = [limit for one in read for limit in one.limits.values()]
        low, high = min(ends or limits or [0.0]), max(ends or limits or [1.0])
        near = 1.5 * (high - low) or 0.1 * abs(high) or 1.0
        close = [limit for limit in limits if low - near <= limit <= high + near]
        low, high = min([low, *close]), max([high, *close])
        room = 0.1 * (high - low) or 0.05 * abs(high) or 0.5
        self.low, self.high = low - room, high + room
        self.up = svg.linear(self.low, self.high, BOTTOM, TOP)
        self.divisor, self.unit = self._unit(max(abs(low), abs(high)))
        ticks = svg.ticks(self.low / self.divisor, self.high / self.divisor, 4)
        self.ticks = [tick * self.divisor for tick in ticks]
        apart = min((b - a for a, b in pairwise(ticks)), default=1.0)
        self.decimals = next((d for d in range(6) if apart * 10**d > 0.999), 6)

    def across(self, index: int) -> float:
        return self.start + self.step * index

    def number(self, value: float) -> str:
        return f"{value / self.divisor:,.{self.decimals}f}".replace("-", "−")

    def _unit(self, size: float) -> tuple[float, str]:
        unit = series.unit(self.key)
        choices = _UNITS.get(unit, ((1.0, unit),))
        return next((choice for choice in choices if size >= choice[0]), choices[-1])


def _axes(scale: _Scale, columns: Sequence[Column]) -> str:
    parts = [svg.text(LEFT - 8, 9, scale.unit, PAGE.muted, size=11, anchor="end")]
    for value in scale.ticks:
        y = scale.up(value)
        parts.append(svg.line(LEFT, y, RIGHT, y, PAGE.line))
        shown = scale.number(value)
        parts.append(svg.text(LEFT - 8, y + 4, shown, PAGE.muted, size=11, anchor="end"))
    parts.append(svg.line(LEFT, BOTTOM, RIGHT, BOTTOM, PAGE.other))
    first, last = columns[0].past.time[:10], columns[-1].past.time[:10]
    if first != last:
        x = min(scale.across(0) - 4, RIGHT - 140)
        parts.append(svg.text(max(x, LEFT), BOTTOM + 21, first, PAGE.muted, size=11))
    parts.append(svg.text(RIGHT, BOTTOM + 21, last, PAGE.muted, size=11, anchor="end"))
    return "".join(parts)


def _machines(scale: _Scale, columns: Sequence[Column]) -> str:
    """Draw a rule wherever the machine changes, with its letter if there is room."""
    parts, taken = [], 0.0
    for index, letter in _moves(columns):
        x = scale.across(index) - scale.step / 2
        body = svg.line(x, TOP - 6, x, BOTTOM, PAGE.muted, 1, "1 3")
        if x - taken > 14:
            taken = x
            body += svg.text(x, 9, letter, PAGE.muted, size=11, anchor="middle", weight=650)
        parts.append(svg.group(f"machine {letter} from here on", body))
    return "".join(parts)


def _moves(columns: Sequence[Column]) -> list[tuple[int, str]]:
    """Return the columns at which the machine changes, with the new machine's letter."""
    pairs = enumerate(pairwise(columns), start=1)
    return [
        (index, after.letter) for index, (before, after) in pairs if before.letter != after.letter
    ]


def _limits(scale: _Scale, columns: Sequence[Column]) -> str:
    """Draw each budget's limit as a step line with a label; only the label if it is off scale."""
    parts = []
    half = scale.step / 2 if len(columns) > 1 else 20
    for form in dict.fromkeys(f for c in columns if c.reading for f in c.reading.limits):
        commands, pen = "", False
        limits = [column.reading.limits.get(form) if column.reading else None for column in columns]
        for index, limit in enumerate(limits):
            if limit is None or not scale.low <= limit <= scale.high:
                pen = False
                continue
            start = max(scale.across(index) - half, LEFT)
            end = min(scale.across(index) + half, RIGHT)
            y = scale.up(limit)
            commands += (f"V{y:.1f}" if pen else f"M{start:.1f} {y:.1f}") + f"H{end:.1f}"
            pen = True
        line = svg.path(commands, PAGE.limit, 1.3, "4 3") if commands else ""
        words = "at least" if form.startswith("min") else "at most"
        known = [limit for limit in limits if limit is not None]
        required = f"{words} {series.limit(scale.key, known[-1])}"
        label = _label(scale, columns, required, known[-1], len(set(known)) == 1)
        parts.append(svg.group(f"budget: {required}", line + label))
    return "".join(parts)


def _label(
    scale: _Scale, columns: Sequence[Column], words: str, limit: float, constant: bool
) -> str:
    """Place a limit's label where it covers least; at the left only if the limit is constant."""
    if limit > scale.high:
        heights, words = [9.0], f"{words} ↑"
    elif limit < scale.low:
        heights, words = [BOTTOM - 5], f"{words} ↓"
    else:
        beside = (scale.up(limit) - 5, scale.up(limit) + 13)
        heights = [y for y in beside if TOP + 4 <= y <= BOTTOM - 3]
    long = 6.3 * len(words)
    places = [(RIGHT - long, y, "end") for y in heights]
    if constant:
        places += [(LEFT + 4, y, "start") for y in heights]

    def covered(place: tuple[float, float, str]) -> int:
        left, y, _ = place
        inside = [
            column.reading
            for index, column in enumerate(columns)
            if left - 6 <= scale.across(index) <= left + long + 6 and column.reading
        ]
        spans = [map(scale.up, one.bounds) for one in inside if one.value is not None]
        letters = [scale.across(i) for i, _ in _moves(columns)] if y < TOP else []
        return sum(bottom >= y - 13 and top <= y + 5 for bottom, top in spans) + sum(
            left - 12 <= x <= left + long + 12 for x in letters
        )

    left, y, anchor = min(places, key=covered)
    x = RIGHT if anchor == "end" else left
    halo = f'<g paint-order="stroke" stroke="{PAGE.surface}" stroke-width="4">'
    return halo + svg.text(x, y, words, PAGE.limit, size=11, anchor=anchor) + "</g>"


def _whiskers(scale: _Scale, columns: Sequence[Column]) -> str:
    commands = ""
    cap = 0 if scale.many else min(3.0, scale.step / 4)
    for index, column in enumerate(columns):
        reading = column.reading
        if reading is None or reading.value is None or reading.bounds[0] == reading.bounds[1]:
            continue
        x, (bottom, top) = scale.across(index), (scale.up(end) for end in reading.bounds)
        commands += f"M{x:.1f} {bottom:.1f}V{top:.1f}"
        if cap:
            commands += f"M{x - cap:.1f} {bottom:.1f}h{2 * cap:.1f}"
            commands += f"M{x - cap:.1f} {top:.1f}h{2 * cap:.1f}"
    return svg.path(commands, PAGE.other, 1 if scale.many else 1.4) if commands else ""


def _joined(scale: _Scale, columns: Sequence[Column]) -> str:
    """Join neighbouring values that can be compared."""
    commands, before = "", None
    for index, column in enumerate(columns):
        if column.reading is None or column.reading.value is None:
            before = None
            continue
        point = f"{scale.across(index):.1f} {scale.up(column.reading.value):.1f}"
        joined = before is not None and comparable(scale.key, before, column.past)
        commands += f"L{point}" if joined else f"M{point}"
        before = column.past
    return svg.path(commands, PAGE.accent, 1.5 if scale.many else 1.8) if commands else ""


def _column(scale: _Scale, index: int, column: Column) -> str:
    """Draw one verdict's mark; its whole column shows the tooltip."""
    reading = column.reading
    if reading is None:
        return ""
    x = scale.across(index)
    y = BOTTOM - 5 if reading.value is None else scale.up(reading.value)
    width = max(scale.step, 2)
    hit = (
        f'<rect x="{x - width / 2:.1f}" y="{TOP:g}" width="{width:.1f}" '
        f'height="{BOTTOM - TOP:g}" fill="transparent"/>'
    )
    body = (
        hit
        + (promoted(x, BOTTOM + 2) if column.tags else "")
        + mark(x, y, reading.outcome, scale.many)
    )
    return svg.group(_tooltip(scale.key, column), body)


def mark(x: float, y: float, outcome: Outcome | None, small: bool = False) -> str:
    """Return a dot for pass, a cross for fail, a diamond for inconclusive, a ring for no budget."""
    if outcome == "fail":
        arm = 3.4 if small else 4.2
        cross = f"M{x - arm:.1f} {y - arm:.1f}l{2 * arm:g} {2 * arm:g}m0 {-2 * arm:g}"
        cross += f"l{-2 * arm:g} {2 * arm:g}"
        halo = svg.path(cross, PAGE.surface, 5)
        return halo + svg.path(cross, "var(--fail)", 2.4)
    if outcome == "inconclusive":
        arm = 3.8 if small else 5
        return (
            f'<path d="M{x:.1f} {y - arm:.1f}l{arm:g} {arm:g}l{-arm:g} {arm:g}l{-arm:g} {-arm:g}z" '
            f'fill="{PAGE.surface}" stroke="var(--inconclusive)" stroke-width="1.8"/>'
        )
    radius = 1.9 if small else 3.2
    paint = f'fill="{PAGE.accent}"'
    if outcome is None:
        paint = f'fill="{PAGE.surface}" stroke="{PAGE.accent}" stroke-width="1.5"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" {paint}/>'


def promoted(x: float, y: float) -> str:
    """Return the mark of a promotion, a triangle below the axis with its tip at x, y."""
    return f'<path d="M{x:.1f} {y:.1f}l4 7h-8z" fill="{PAGE.ink}"/>'


def _tooltip(key: Key, column: Column) -> str:
    past, reading = column.past, column.reading
    assert reading is not None
    value = "no value" if reading.value is None else series.shown(key, reading.value)
    bounds = series.interval(key, reading)
    parts = [past.time[:16].replace("T", " "), value + (f" ({bounds})" if bounds else "")]
    parts.append(reading.outcome or "no budget")
    if past.bundle:
        parts.append(f"bundle {past.bundle[:12]}")
    parts += [f"promoted to {tag}" for tag in column.tags]
    if past.again:
        parts.append("judged again, not measured again")
    if reading.value is None and reading.reasons:
        parts.append(reading.reasons[0])
    parts += past.evidence[:1]
    return wording.shorten(" · ".join(parts), 160)


def _description(key: Key, columns: Sequence[Column]) -> str:
    """Return the chart in words, for screen readers."""
    read = [c.reading for c in columns if c.reading and c.reading.value is not None]
    values = [one.value for one in read if one.value is not None]
    if not values:
        return "No verdict has a value."
    parts = [f"{len(values)} verdicts from {columns[0].past.time} to {columns[-1].past.time}"]
    parts.append(f"latest {series.shown(key, values[-1])}")
    ends = (series.shown(key, min(values)), series.shown(key, max(values)))
    parts.append(f"between {ends[0]} and {ends[1]}")
    stands = [c.reading.outcome for c in columns if c.reading]
    missed, inconclusive = stands.count("fail"), stands.count("inconclusive")
    parts.append(f"{missed} missed, {inconclusive} inconclusive")
    moved = len(_moves(columns))
    parts.append(f"the machine changed {moved} times" if moved else "one machine")
    return "; ".join(parts)
