"""Accuracy against latency: every measured model, with its intervals, and the Pareto front."""

from __future__ import annotations

from collections.abc import Collection

from pipeline.report import facts, wording
from pipeline.report.figures import svg
from pipeline.report.figures.axes import HEIGHT, Rule, axes, frame
from pipeline.report.figures.svg import PAGE
from pipeline.terms import metrics

Box = tuple[float, float, float, float]


def tradeoff(
    models: list[facts.Point],
    width: int,
    name: str,
    metric: str = "accuracy",
    named: Collection[str] | None = None,
) -> str:
    """Return the scatter plot; ``models`` must not be empty. Up and to the left is better.

    ``metric``: the main score; ``named``: the models whose names stand beside them (None: all).
    """
    title = metrics.title(metric)
    left, right, top, bottom = inside = frame(width)
    low = min(p.latency.low for p in models) / 1.35
    high = max(p.latency.high for p in models) * 1.35
    across = svg.log(low, high, left, right)
    floor, ceiling = _range(models)
    up = svg.linear(floor, ceiling, bottom, top)
    titles = (title, "← faster · p50 latency in ms (log scale)")
    share = metrics.known(metric).unit == "%"
    rules = [
        Rule(up(value), f"{100 * value:.3g}{wording.NBSP}%" if share else f"{value:.3g}")
        for value in svg.ticks(floor, ceiling, 5)
    ]
    marks = [(across(value), f"{value:g}") for value in svg.log_ticks(low, high)]
    parts = [axes(inside, titles, rules, marks)]
    parts.append(_front(models, across, up, right))
    taken = [box for point in models for box in _boxes(point, across, up)]
    parts += [_point(point, across, up, metric) for point in models]
    for point in sorted(models, key=lambda p: not p.candidate):
        if named is not None and point.name not in named:
            continue
        parts.append(_label(point, across, up, (left, right), taken))
    summary = "; ".join(
        f"{p.name}: {wording.milliseconds(p.latency.value)}, "
        f"{wording.score(p.accuracy.value, metric)}"
        for p in models
    )
    return svg.document(name, width, HEIGHT, f"{title} against latency", summary, "".join(parts))


def _range(models: list[facts.Point]) -> tuple[float, float]:
    low, high = min(p.accuracy.low for p in models), max(p.accuracy.high for p in models)
    room = (high - low) * 0.12 or 0.01
    return low - room, high + room


def _front(models: list[facts.Point], across: svg.Scale, up: svg.Scale, right: float) -> str:
    front = facts.pareto(models)
    commands = f"M{across(front[0].latency.value):.1f} {up(front[0].accuracy.value):.1f}"
    for point in front[1:]:
        commands += f"H{across(point.latency.value):.1f}V{up(point.accuracy.value):.1f}"
    return svg.group("Pareto front", svg.path(commands + f"H{right:.1f}", PAGE.muted, 1, "2 3"))


def _point(point: facts.Point, across: svg.Scale, up: svg.Scale, metric: str) -> str:
    colour = PAGE.accent if point.candidate else PAGE.other
    x, y = across(point.latency.value), up(point.accuracy.value)
    low, high = up(point.accuracy.low), up(point.accuracy.high)
    body = svg.line(x, low, x, high, colour, 1.5)
    body += "".join(svg.line(x - 4, end, x + 4, end, colour, 1.5) for end in (low, high))
    body += svg.line(across(point.latency.low), y, across(point.latency.high), y, colour, 1.5)
    body += svg.mark(x, y, point.candidate)
    score, least, most = (wording.score(value, metric) for value in point.accuracy)
    tooltip = (
        f"{point.name}: {score} ({least} – {most}), p50 "
        f"{wording.milliseconds(point.latency.value)} ({wording.significant(point.latency.low)} – "
        f"{wording.milliseconds(point.latency.high)})"
    )
    return svg.group(tooltip, body)


def _boxes(point: facts.Point, across: svg.Scale, up: svg.Scale) -> list[Box]:
    """Return the boxes of a point's mark and error bar, as left, top, right, bottom."""
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
) -> str:
    """Place the name beside the point where it overlaps least, and add its box to ``taken``."""
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
    colour = PAGE.accent if point.candidate else PAGE.ink
    weight = 650 if point.candidate else 400
    right = best[0] < x
    edge, anchor = (best[2], "end") if right else (best[0], "start")
    halo = f'<g paint-order="stroke" stroke="{PAGE.surface}" stroke-width="4">'
    return halo + svg.text(edge, best[3] - 2, name, colour, anchor=anchor, weight=weight) + "</g>"
