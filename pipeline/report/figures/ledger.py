"""The ledger as a figure: accuracy, size and latency as small multiples aligned by stage."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.report import facts, wording
from pipeline.report.figures import svg
from pipeline.report.figures.svg import PAGE
from pipeline.store.artifact import MODELS
from pipeline.terms import metrics
from pipeline.verdict.record import LedgerRow, ReportData

MAX_LATENCY_PANELS = 2
MAX_ROWS = 40
HEAD = 44
"""Pixels above the rows for a panel's title and note."""
LIMIT = 16
"""Additional pixels if a panel labels its budget."""


@dataclass(frozen=True)
class Cell:
    """One stage in one panel: its value, its interval if it has one, and the value's label."""

    value: float
    shown: str
    low: float | None = None
    high: float | None = None
    metric: str | None = None


@dataclass(frozen=True)
class Panel:
    """One quantity over all stages: bars that start at zero, or dots with intervals."""

    title: str
    note: str
    cells: tuple[Cell | None, ...]
    bars: bool
    limit: float | None = None


def ledger(data: ReportData, width: int, name: str) -> str:
    """Return the figure, ``width`` pixels wide: panels side by side, or stacked if narrow."""
    rows = [row for row in data.ledger if row.kind in MODELS][:MAX_ROWS]
    panels = _panels(data, rows)
    chosen = facts.candidate_row(data)
    marked = [row is chosen for row in rows]
    if width >= 600:
        body, height = _side_by_side(rows, panels, marked, width)
    else:
        body, height = _stacked(rows, panels, marked, width)
    description = "; ".join(f"{p.title}: {_spoken(rows, p)}" for p in panels)
    title = f"Accuracy, size and latency after each stage of {data.name}"
    return svg.document(name, width, height, title, description, body)


def _spoken(rows: list[LedgerRow], panel: Panel) -> str:
    pairs = zip(rows, panel.cells, strict=True)
    return ", ".join(f"{row.id} {cell.shown}" for row, cell in pairs if cell) or "not measured"


def _panels(data: ReportData, rows: list[LedgerRow]) -> list[Panel]:
    panels = []
    if any(row.accuracy for row in rows):
        metric = next(row.metric or "accuracy" for row in rows if row.accuracy)
        cells = tuple(
            Cell(row.accuracy[0], wording.score(row.accuracy[0], metric), *row.accuracy[1:], metric)
            if row.accuracy
            else None
            for row in rows
        )
        limit = _score_limit(data, metric)
        panels.append(Panel(metrics.title(metric), "on eval, 95 % interval", cells, False, limit))
    sizes = tuple(Cell(row.size, wording.size(row.size)) for row in rows)
    panels.append(
        Panel("Size", "all files", sizes, True, _absolute(data, "size", None) or _size_limit(data))
    )
    latencies = data.measurements.latency if data.measurements else {}
    for target in list(latencies)[:MAX_LATENCY_PANELS]:
        panels.append(_latency_panel(data, rows, target))
    return panels


def _latency_panel(data: ReportData, rows: list[LedgerRow], target: str) -> Panel:
    assert data.measurements is not None
    latency = data.measurements.latency[target]
    cells: list[Cell | None] = []
    for row in rows:
        model = facts.measured_name(data, row)
        value = facts.median(latency.samples.get(model or "", []))
        cells.append(None if value is None else Cell(value, wording.milliseconds(value)))
    limit = _absolute(data, "latency_p50", target) or _speed_limit(data, target)
    title = "Latency" if len(data.measurements.latency) == 1 else f"Latency, {target}"
    threads = wording.plural(latency.threads, "thread")
    return Panel(title, f"p50, batch 1, {threads}", tuple(cells), True, limit)


def _absolute(data: ReportData, metric: str, place: str | None) -> float | None:
    asked = (metric, "max", place)
    budgets = data.verdict.budgets if data.verdict else []
    return next((b.limit for b in budgets if (b.metric, b.form, b.place) == asked), None)


def _score_limit(data: ReportData, metric: str) -> float | None:
    """Return the lowest score that a budget allows; None if no budget limits the score."""
    scores = {row.id: row.accuracy[0] for row in data.ledger if row.accuracy}
    for budget in data.verdict.budgets if data.verdict else []:
        base = scores.get(budget.against or "")
        if budget.metric != metric:
            continue
        if budget.form == "min":
            return budget.limit
        if base is not None and budget.form == "min_retained":
            return base * budget.limit
        if base is not None and budget.form == "max_drop":
            return base - budget.limit
    return None


def _relative(
    data: ReportData, metric: str, form: str, place: str | None
) -> tuple[str, float] | None:
    """Return the measured model and the factor of the first such budget."""
    if data.measurements is None or data.verdict is None:
        return None
    for budget in data.verdict.budgets:
        model = data.measurements.name_of(budget.against or "")
        if model and (budget.metric, budget.form, budget.place) == (metric, form, place):
            return model, budget.limit
    return None


def _speed_limit(data: ReportData, target: str) -> float | None:
    asked = _relative(data, "latency_p50", "min_speedup", target)
    if asked is None or data.measurements is None:
        return None
    median = facts.median(data.measurements.latency[target].samples.get(asked[0], []))
    return median and median / asked[1]


def _size_limit(data: ReportData) -> float | None:
    asked = _relative(data, "size", "min_shrink", None)
    if asked is None or data.measurements is None:
        return None
    return data.measurements.models[asked[0]].size / asked[1]


def _side_by_side(
    rows: list[LedgerRow],
    panels: list[Panel],
    marked: list[bool],
    width: int,
) -> tuple[str, float]:
    label, gap, step = 150, 26, 38
    top = HEAD + (LIMIT if any(panel.limit is not None for panel in panels) else 0)
    height = top + step * len(rows) + 14
    each = (width - label - gap * len(panels)) / len(panels)
    parts = []
    centres = [top + step * (index + 0.5) for index in range(len(rows))]
    for row, y, own in zip(rows, centres, marked, strict=True):
        parts.append(svg.line(0, y - step / 2, width, y - step / 2, PAGE.line))
        parts.append(_label(row, 0, y, label, own))
    for index, panel in enumerate(panels):
        x = label + gap + index * (each + gap)
        parts.append(_panel(panel, x, top, top, each, centres, marked))
    return "".join(parts), height


def _label(row: LedgerRow, x: float, y: float, width: float, own: bool) -> str:
    name = svg.fit(row.id, width, 13)
    below = row.kind if row.id.startswith(row.stage) else f"{row.stage} · {row.kind}"
    return svg.text(x, y - 1, name, PAGE.ink, size=13, weight=650 if own else 500) + svg.text(
        x, y + 13, svg.fit(below, width, 11), PAGE.muted, size=11
    )


def _stacked(
    rows: list[LedgerRow], panels: list[Panel], marked: list[bool], width: int
) -> tuple[str, float]:
    label, step = 96, 26
    parts, start = [], 0.0
    for panel in panels:
        top = HEAD + (LIMIT if panel.limit is not None else 0)
        centres = [start + top + step * (index + 0.5) for index in range(len(rows))]
        for row, y, own in zip(rows, centres, marked, strict=True):
            name = svg.fit(row.id, label, 12.5)
            weight = 650 if own else 400
            parts.append(svg.line(0, y - step / 2, width, y - step / 2, PAGE.line))
            parts.append(svg.text(0, y + 4, name, PAGE.ink, size=12.5, weight=weight))
        x = label + 10
        parts.append(_panel(panel, x, start + top, top, width - x, centres, marked))
        start += top + step * len(rows) + 22
    return "".join(parts), start


def _panel(
    panel: Panel,
    x: float,
    top: float,
    head: float,
    width: float,
    centres: list[float],
    marked: list[bool],
) -> str:
    values = 66  # pixels at the right edge for the labels of the values
    scale = _scale(panel, x, x + width - values)
    bottom = centres[-1] + (centres[1] - centres[0]) / 2 if len(centres) > 1 else centres[0] + 16
    parts = [
        svg.text(
            x, top - head + 14, svg.fit(panel.title, width, 14), PAGE.ink, size=14, weight=650
        ),
        svg.text(x, top - head + 30, svg.fit(panel.note, width, 11), PAGE.muted, size=11),
        svg.line(x, top, x, bottom, PAGE.line),
    ]
    if panel.limit is not None:
        at = scale(panel.limit)
        parts.append(svg.line(at, top - 6, at, bottom, PAGE.limit, 1.2, "3 3"))
        anchor = "end" if at > x + (width - values) * 0.7 else "start"
        parts.append(svg.text(at, top - 10, "budget", PAGE.limit, size=11, anchor=anchor))
    for cell, y, own in zip(panel.cells, centres, marked, strict=True):
        end = x + width
        if cell is None:
            parts.append(svg.text(end, y + 4, "–", PAGE.muted, anchor="end"))
            continue
        parts.append(svg.group(_tooltip(panel, cell), _drawn(panel, cell, scale, x, y, own)))
        shown = PAGE.accent if own else PAGE.ink
        weight = 650 if own else 400
        parts.append(svg.text(end, y + 4, cell.shown, shown, anchor="end", weight=weight))
    return "".join(parts)


def _tooltip(panel: Panel, cell: Cell) -> str:
    if cell.low is None or cell.high is None:
        return f"{panel.title} {cell.shown}"
    low, high = (wording.score(end, cell.metric) for end in (cell.low, cell.high))
    return f"{panel.title} {cell.shown}, 95 % interval {low} – {high}"


def _drawn(panel: Panel, cell: Cell, scale: svg.Scale, x: float, y: float, own: bool) -> str:
    colour = PAGE.accent if own else PAGE.other
    if panel.bars:
        return svg.bar(x, y - 6, scale(cell.value) - x, 12, colour)
    dot = svg.mark(scale(cell.value), y, own)
    if cell.low is None or cell.high is None:
        return dot
    left, right = scale(cell.low), scale(cell.high)
    caps = "".join(svg.line(at, y - 4, at, y + 4, colour, 1.5) for at in (left, right))
    return svg.line(left, y, right, y, colour, 2) + caps + dot


def _scale(panel: Panel, start: float, end: float) -> svg.Scale:
    cells = [cell for cell in panel.cells if cell]
    highs = [cell.value if cell.high is None else cell.high for cell in cells]
    lows = [cell.value if cell.low is None else cell.low for cell in cells]
    if panel.limit is not None:
        highs.append(panel.limit)
        lows.append(panel.limit)
    if panel.bars:
        return svg.linear(0, max(highs, default=1), start, end)
    room = (max(highs) - min(lows)) * 0.08 or 0.01
    return svg.linear(min(lows) - room, max(highs) + room, start, end)
