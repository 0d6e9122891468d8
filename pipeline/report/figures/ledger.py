"""The ledger as a figure: accuracy, size and latency as small multiples aligned by stage."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from rarefy.pipeline.report import facts, wording
from rarefy.pipeline.report.figures.chart import (
    INK,
    LIMIT,
    LINE,
    MUTED,
    Box,
    Chart,
    Font,
    Scale,
    fit,
    style,
)
from rarefy.pipeline.store.artifact import MODELS
from rarefy.pipeline.terms import metrics
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.verdict.record import LedgerRow, ReportData
from rarefy.pipeline.verdict.verdict import BudgetResult

MAX_LATENCY_PANELS = 2
MAX_ROWS = 40
HEAD = 44.0
"""Pixels above the rows for a panel's title and note."""
BUDGET = 16.0
"""Additional pixels if a panel labels its budget."""
VALUES = 66.0
"""Pixels at the right end of a panel for the labels of the values."""
TITLE = Font(INK, 14, 650)
FINE = Font(MUTED, 11)
FINE_LIMIT = Font(LIMIT, 11)


_RELATIVE: Final[dict[str, Callable[[float, float], float]]] = {
    "min_retained": operator.mul,
    "max_drop": operator.sub,
    "max_increase": operator.add,
    "min_speedup": operator.truediv,
    "min_shrink": operator.truediv,
}
"""Budget form -> the value that it allows, from that of the other model and the limit."""


class _Layout(NamedTuple):
    """How panels and the stages' names are arranged, in pixels.

    ``label``      the width of the names
    ``gap``        between two panels
    ``step``       the height of a row
    ``below``      below the last row
    ``technique``  whether a stage's technique stands below its name
    """

    label: float
    gap: float
    step: float
    below: float
    name: Font
    delivered: Font
    technique: bool


WIDE = _Layout(150, 26, 38, 14, Font(INK, 13, 500), Font(INK, 13, 650), technique=True)
NARROW = _Layout(96, 10, 26, 22, Font(INK, 12.5), Font(INK, 12.5, 650), technique=False)


@dataclass
class Panel:
    """One quantity over all stages: bars that start at zero, or dots with intervals.

    ``values``  stage -> value, with its interval if it is not exact
    ``show``    formats a value
    ``limit``   what the budget allows, if there is one
    """

    title: str
    note: str
    show: Callable[[float], str] = wording.size
    bars: bool = True
    values: dict[str, Interval] = field(default_factory=dict)
    limit: float | None = None

    def scale(self, start: float, end: float) -> Scale:
        """Return the map from values to pixels."""
        ends = []
        if self.limit is not None:
            ends.append(self.limit)
        for interval in self.values.values():
            ends += [interval.low, interval.high]
        if self.bars:
            return Scale(0, max(ends, default=1), start, end)
        low = min(ends)
        high = max(ends)
        room = (high - low) * 0.08 or 0.01
        return Scale(low - room, high + room, start, end)

    def tooltip(self, value: Interval) -> str:
        """Return a value in words, with its interval if it has one."""
        words = f"{self.title} {self.show(value.value)}"
        if not self.bars:
            low = self.show(value.low)
            high = self.show(value.high)
            bounds = wording.span(low, high)
            words += f", 95% interval {bounds}"
        return words

    def describe(self) -> str:
        """Return the panel in words."""
        parts = []
        for stage, value in self.values.items():
            shown = self.show(value.value)
            parts.append(f"{stage} {shown}")
        words = ", ".join(parts) or "not measured"
        return f"{self.title}: {words}"


def ledger(data: ReportData, width: int, name: str) -> str:
    """Return the figure: panels side by side, or one below the other if it is narrow.

    Args:
        data: The record of a run with at least one model in its ledger.
        width: The width in pixels.
        name: A name that is unique in the page.
    """
    rows = [row for row in data.ledger if row.kind in MODELS][:MAX_ROWS]
    panels = _panels(data, rows)
    title = f"Accuracy, size and latency after each stage of {data.name}"
    chart = Chart(name, width, 0.0, title)
    chart.descriptions = [panel.describe() for panel in panels]
    delivered = facts.candidate_row(data)
    if width >= 600:
        _draw_block(chart, WIDE, rows, panels, delivered)
    else:
        for panel in panels:
            _draw_block(chart, NARROW, rows, [panel], delivered)
    return chart.svg()


def _panels(data: ReportData, rows: Sequence[LedgerRow]) -> list[Panel]:
    panels = []
    if any(row.accuracy for row in rows):
        panels.append(_score_panel(data, rows))
    panels.append(_size_panel(data, rows))
    latencies = {}
    if data.measurements:
        latencies = data.measurements.latency
    for target in list(latencies)[:MAX_LATENCY_PANELS]:
        panels.append(_latency_panel(data, rows, target))
    return panels


def _score_panel(data: ReportData, rows: Sequence[LedgerRow]) -> Panel:
    scores = {row.id: row.accuracy[0] for row in data.ledger if row.accuracy}
    metric = next(row.metric or "accuracy" for row in rows if row.accuracy)
    panel = Panel(metrics.title(metric), "on eval, 95% interval", bars=False)
    panel.show = lambda value: wording.score(value, metric)
    panel.values = {row.id: Interval(*row.accuracy) for row in rows if row.accuracy}
    budgets = [budget for budget in _budgets(data) if budget.metric == metric]
    panel.limit = _limit(budgets, "min", scores.get)
    return panel


def _size_panel(data: ReportData, rows: Sequence[LedgerRow]) -> Panel:
    measured = data.measurements

    def size_of(stage: str) -> float | None:
        model = None
        if measured:
            model = measured.name_of(stage)
        if measured and model:
            return measured.models[model].size
        return None

    panel = Panel("Size", "all files")
    panel.values = {row.id: Interval(row.size, row.size, row.size) for row in rows}
    budgets = [budget for budget in _budgets(data) if budget.metric == "size"]
    panel.limit = _limit(budgets, "max", size_of)
    return panel


def _latency_panel(data: ReportData, rows: Sequence[LedgerRow], target: str) -> Panel:
    measured = data.measurements
    assert measured is not None
    latency = measured.latency[target]

    def median_of(model: str | None) -> float | None:
        return facts.median(latency.samples.get(model or "", []))

    title = "Latency"
    if len(measured.latency) != 1:
        title = f"Latency, {target}"
    threads = wording.plural(latency.threads, "thread")
    panel = Panel(title, f"p50, batch 1, {threads}", show=wording.milliseconds)
    for row in rows:
        value = median_of(facts.measured_name(data, row))
        if value is not None:
            panel.values[row.id] = Interval(value, value, value)
    key = ("latency_p50", target)
    budgets = [budget for budget in _budgets(data) if (budget.metric, budget.place) == key]
    panel.limit = _limit(budgets, "max", lambda stage: median_of(measured.name_of(stage)))
    return panel


def _budgets(data: ReportData) -> list[BudgetResult]:
    """Return the budgets with an upper limit first: of several, the first is drawn."""
    budgets = []
    if data.verdict:
        for budget in data.verdict.budgets:
            if budget.cell is None:
                budgets.append(budget)
    return sorted(budgets, key=lambda budget: budget.form != "max")


def _limit(
    budgets: Sequence[BudgetResult],
    absolute: str,
    value_of: Callable[[str], float | None],
) -> float | None:
    """Return the value that the first of the budgets allows; None if there is none to draw.

    Args:
        budgets: The budgets of one metric, and of one target if it is timed.
        absolute: The form whose limit is a value, ``max`` or ``min``.
        value_of: Returns a stage's value, which other forms relate to; None if it has none.
    """
    for budget in budgets:
        if budget.form == absolute:
            return budget.limit
        base = value_of(budget.against or "")
        if base is not None and budget.form in _RELATIVE:
            return _RELATIVE[budget.form](base, budget.limit)
    return None


def _draw_block(
    chart: Chart,
    layout: _Layout,
    rows: Sequence[LedgerRow],
    panels: Sequence[Panel],
    delivered: LedgerRow | None,
) -> None:
    """Draw panels side by side below the chart so far, with the stages' names at the left."""
    head = chart.height
    top = head + HEAD
    if any(panel.limit is not None for panel in panels):
        top += BUDGET
    y = top
    for row in rows:
        chart.line((0, y), (chart.width, y), LINE)
        _draw_name(chart, layout, row, y + layout.step / 2, row is delivered)
        y += layout.step
    width = (chart.width - layout.label) / len(panels) - layout.gap
    x = layout.label + layout.gap
    for panel in panels:
        title = fit(panel.title, width, TITLE.size)
        note = fit(panel.note, width, FINE.size)
        box = Box(x, top, x + width, y)
        chart.text(x, head + 9, title, TITLE)
        chart.text(x, head + 26, note, FINE)
        _draw_panel(chart, panel, box, rows, delivered)
        x += width + layout.gap
    chart.height = y + layout.below


def _draw_name(chart: Chart, layout: _Layout, row: LedgerRow, y: float, delivered: bool) -> None:
    font = layout.delivered if delivered else layout.name
    name = fit(row.id, layout.label, font.size)
    if not layout.technique:
        chart.text(0, y, name, font)
        return
    technique = row.kind
    if not row.id.startswith(row.stage):
        technique = f"{row.stage} · {row.kind}"
    chart.text(0, y - 5, name, font)
    chart.text(0, y + 9, fit(technique, layout.label, 11), FINE)


def _draw_panel(
    chart: Chart,
    panel: Panel,
    box: Box,
    rows: Sequence[LedgerRow],
    delivered: LedgerRow | None,
) -> None:
    """Draw a panel's budget and values; ``box``: the area of its rows."""
    right = box.right - VALUES
    scale = panel.scale(box.left, right)
    chart.line((box.left, box.top), (box.left, box.bottom), LINE)
    if panel.limit is not None:
        x = scale(panel.limit)
        chart.line((x, box.top - 6), (x, box.bottom), LIMIT, 1.2, "3 3")
        late = x - box.left > 0.7 * (right - box.left)
        chart.text(x, box.top - 14, "budget", FINE_LIMIT, "end" if late else None)
    step = (box.bottom - box.top) / max(len(rows), 1)
    y = box.top + step / 2
    for row in rows:
        value = panel.values.get(row.id)
        if value is None:
            chart.text(box.right, y, "–", Font(MUTED), "end")
        else:
            chosen = row is delivered
            with chart.tooltip(panel.tooltip(value)):
                _draw_value(chart, panel, scale, value, y, chosen)
            chart.text(box.right, y, panel.show(value.value), style(chosen).font, "end")
        y += step


def _draw_value(
    chart: Chart, panel: Panel, scale: Scale, value: Interval, y: float, delivered: bool
) -> None:
    """Draw a bar, or a dot with its interval."""
    x = scale(value.value)
    colour = style(delivered).colour
    if panel.bars:
        chart.bar((scale.start, y - 6), x - scale.start, 12, colour)
    else:
        chart.whisker((scale(value.low), y), (scale(value.high), y), colour, 2)
        chart.dot(x, y, delivered)
