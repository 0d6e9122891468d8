"""Accuracy against latency: every measured model, with its intervals, and the Pareto front."""

from __future__ import annotations

from pipeline.report import facts, wording
from pipeline.report.figures import svg
from pipeline.report.figures.svg import Palette

Box = tuple[float, float, float, float]


def tradeoff(models: list[facts.Point], palette: Palette, width: int, name: str) -> str:
    """Return the scatter plot; ``models`` must not be empty. Up and to the left is better."""
    height = 320.0
    left, right, top, bottom = 52.0, width - 14.0, 26.0, height - 50
    low = min(p.latency.low for p in models) / 1.35
    high = max(p.latency.high for p in models) * 1.35
    across = svg.log(low, high, left, right)
    floor, ceiling = _range(models)
    up = svg.linear(floor, ceiling, bottom, top)
    parts = [_axes(across, up, (low, high), (floor, ceiling), (left, right, bottom), palette)]
    parts.append(_front(models, across, up, right, palette))
    taken = [box for point in models for box in _boxes(point, across, up)]
    parts += [_point(point, across, up, palette) for point in models]
    for point in sorted(models, key=lambda p: not p.candidate):
        parts.append(_label(point, across, up, (left, right), taken, palette))
    said = "; ".join(
        f"{p.name}: {wording.milliseconds(p.latency.value)}, {wording.percent(p.accuracy.value)}"
        for p in models
    )
    return svg.document(name, width, height, "Accuracy against latency", said, "".join(parts))


def _range(models: list[facts.Point]) -> tuple[float, float]:
    low, high = min(p.accuracy.low for p in models), max(p.accuracy.high for p in models)
    room = (high - low) * 0.12 or 0.01
    return low - room, high + room


def _axes(
    across: svg.Scale,
    up: svg.Scale,
    latency: tuple[float, float],
    accuracy: tuple[float, float],
    box: tuple[float, float, float],
    palette: Palette,
) -> str:
    left, right, bottom = box
    parts = [svg.text(0, 12, "Accuracy", palette.muted, size=11.5)]
    for value in svg.ticks(*accuracy, 5):
        y = up(value)
        parts.append(svg.line(left, y, right, y, palette.line))
        shown = f"{100 * value:.3g}{wording.NBSP}%"
        parts.append(svg.text(left - 8, y + 4, shown, palette.muted, size=11.5, anchor="end"))
    for value in svg.log_ticks(*latency):
        x = across(value)
        parts.append(svg.line(x, bottom, x, bottom + 5, palette.muted))
        parts.append(
            svg.text(x, bottom + 18, f"{value:g}", palette.muted, size=11.5, anchor="middle")
        )
    parts.append(svg.line(left, bottom, right, bottom, palette.muted))
    note = "← faster · p50 latency in ms, logarithmic"
    parts.append(svg.text(left, bottom + 40, note, palette.muted, size=11.5))
    return "".join(parts)


def _front(
    models: list[facts.Point], across: svg.Scale, up: svg.Scale, right: float, palette: Palette
) -> str:
    front = facts.pareto(models)
    commands = f"M{across(front[0].latency.value):.1f} {up(front[0].accuracy.value):.1f}"
    for point in front[1:]:
        commands += f"H{across(point.latency.value):.1f}V{up(point.accuracy.value):.1f}"
    return svg.group("Pareto front", svg.path(commands + f"H{right:.1f}", palette.muted, 1, "2 3"))


def _point(point: facts.Point, across: svg.Scale, up: svg.Scale, palette: Palette) -> str:
    colour = palette.accent if point.candidate else palette.other
    x, y = across(point.latency.value), up(point.accuracy.value)
    low, high = up(point.accuracy.low), up(point.accuracy.high)
    body = svg.line(x, low, x, high, colour, 1.5)
    body += "".join(svg.line(x - 4, end, x + 4, end, colour, 1.5) for end in (low, high))
    body += svg.line(across(point.latency.low), y, across(point.latency.high), y, colour, 1.5)
    body += svg.mark(x, y, palette, point.candidate)
    tooltip = (
        f"{point.name}: {wording.percent(point.accuracy.value)} "
        f"({wording.percent(point.accuracy.low)} – {wording.percent(point.accuracy.high)}), p50 "
        f"{wording.milliseconds(point.latency.value)} ({wording.significant(point.latency.low)} – "
        f"{wording.milliseconds(point.latency.high)})"
    )
    return svg.group(tooltip, body)


def _boxes(point: facts.Point, across: svg.Scale, up: svg.Scale) -> list[Box]:
    """Return what a point covers: its mark and its error bar, as left, top, right, bottom."""
    x, y = across(point.latency.value), up(point.accuracy.value)
    bar = (x - 4, up(point.accuracy.high), x + 4, up(point.accuracy.low))
    return [(x - 7, y - 7, x + 7, y + 7), bar]


def _overlap(one: Box, other: Box) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0.0) * max(down, 0.0)


def _label(
    point: facts.Point,
    across: svg.Scale,
    up: svg.Scale,
    edges: tuple[float, float],
    taken: list[Box],
    palette: Palette,
) -> str:
    """Write the name beside the point where it covers least, and note the place as taken."""
    x, y = across(point.latency.value), up(point.accuracy.value)
    name = svg.fit(point.name, 130, 12)
    long = 7.2 * len(name)
    places: list[Box] = []
    for drop in (0, -16, 16, -32, 32):
        for start in (x + 10, x - 10 - long):
            if edges[0] <= start and start + long <= edges[1]:
                places.append((start, y + drop - 8, start + long, y + drop + 6))
    places = places or [(x + 10, y - 8, x + 10 + long, y + 6)]
    best = min(places, key=lambda place: sum(_overlap(place, box) for box in taken))
    taken.append(best)
    colour = palette.accent if point.candidate else palette.ink
    weight = 650 if point.candidate else 400
    right = best[0] < x
    edge, anchor = (best[2], "end") if right else (best[0], "start")
    halo = f'<g paint-order="stroke" stroke="{palette.surface}" stroke-width="4">'
    return halo + svg.text(edge, best[3] - 2, name, colour, anchor=anchor, weight=weight) + "</g>"
