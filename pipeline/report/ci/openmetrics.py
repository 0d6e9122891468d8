"""The run's numbers in OpenMetrics text format, for GitLab's metrics report and for Prometheus.

It is valid in Prometheus's older text format, too, which the textfile collector, the Pushgateway
and Telegraf read. That has no types ``info`` and ``stateset``, so all families are gauges.
Times are in seconds and sizes in bytes, as OpenMetrics requires. GitLab compares values as strings,
so numbers are rounded. It ignores the rest of a line after ``#``, so no label contains one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from pipeline.report.ci import junit
from pipeline.report.ci.numbers import Measured, plain
from pipeline.terms import metrics
from pipeline.verdict.readings import logical_cores
from pipeline.verdict.record import LedgerRow, ReportData

OUTCOMES = ("pass", "fail", "inconclusive")
_NOT_NAME = re.compile(r"[^a-zA-Z0-9_]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffd]+")


_ESCAPED = {"#": "@", "\\": r"\\", '"': r"\""}
_SIDES = (("", ""), ("_low", " Lower bound."), ("_high", " Upper bound."))


class _Unit(NamedTuple):
    """A unit's suffix in the metric's name, and the factor from our unit to it."""

    name: str
    scale: float = 1.0


UNITS = {
    "%": _Unit("ratio"),
    "×": _Unit("ratio"),
    "ms": _Unit("seconds", 1e-3),
    "B": _Unit("bytes"),
    "": _Unit(""),
}


def render(data: ReportData, numbers: Sequence[Measured]) -> str:
    """Return all metric families of a run; values that are not finite are left out."""
    page = _Page({"recipe": data.name})
    page.info("rarefy_run_info", "The machine on which the run was measured.", _machine(data))
    if data.verdict is not None:
        page.states("rarefy_verdict", "The verdict on all budgets.", {}, data.verdict.outcome)
        _budgets(page, data)
    for number in numbers:
        labels = {"model": number.model}
        if number.target:
            labels["target"] = number.target
        values = (number.value, number.low, number.high)
        description = f"The model's {number.metric}."
        page.gauge(number.metric, description, number.unit, labels, values)
    for row in data.ledger:
        _stage(page, row)
    return page.text()


class _Page:
    """Metric families with their samples, in the order in which they are added."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = dict(labels)
        self._families: dict[str, list[str]] = {}

    def gauge(
        self,
        name: str,
        about: str,
        unit: str,
        labels: Mapping[str, str],
        values: Sequence[float | None],
    ) -> None:
        """Add a value and its lower and upper bound, each in its own family."""
        suffix, scale = UNITS[unit]
        stem = _NOT_NAME.sub("_", name)
        for (side, note), value in zip(_SIDES, values, strict=False):
            if value is None or not math.isfinite(value):
                continue
            family = f"rarefy_{stem}{side}"
            if suffix:
                family += f"_{suffix}"
            lines = self._family(family, about + note, suffix)
            pairs = self._pairs(labels)
            lines.append(f"{family}{pairs} {plain(value * scale)}")

    def info(self, name: str, about: str, labels: Mapping[str, str]) -> None:
        lines = self._family(name, about)
        lines.append(f"{name}{self._pairs(labels)} 1")

    def states(self, name: str, about: str, labels: Mapping[str, str], current: str) -> None:
        lines = self._family(name, about)
        for outcome in OUTCOMES:
            pairs = self._pairs({**labels, name: outcome})
            value = int(outcome == current)
            lines.append(f"{name}{pairs} {value}")

    def text(self) -> str:
        lines = [*chain(*self._families.values()), "# EOF"]
        return "\n".join(lines) + "\n"

    def _family(self, name: str, about: str, unit: str = "") -> list[str]:
        if name not in self._families:
            lines = [f"# TYPE {name} gauge"]
            if unit:
                lines.append(f"# UNIT {name} {unit}")
            lines.append(f"# HELP {name} {about}")
            self._families[name] = lines
        return self._families[name]

    def _pairs(self, labels: Mapping[str, str]) -> str:
        pairs = {**self._labels, **labels}
        parts = []
        for name, value in pairs.items():
            label = _label(value)
            parts.append(f'{name}="{label}"')
        return "{" + ",".join(parts) + "}"


def _label(value: str) -> str:
    """Escape a label's value; ``#`` becomes ``@``, because GitLab cuts the line there."""
    text = _CONTROL.sub(" ", junit.printable(value))
    for character, escaped in _ESCAPED.items():
        text = text.replace(character, escaped)
    return text


def _budgets(page: _Page, data: ReportData) -> None:
    judged = []
    if data.verdict:
        judged = data.verdict.budgets
    for name, budget in zip(junit.case_names(judged), judged, strict=True):
        labels = {"budget": name, "level": budget.level}
        page.states("rarefy_budget", "The outcome of a budget.", labels, budget.outcome)
        is_time = metrics.unit(budget.metric, budget.form) == "ms"
        scale = 1.0
        if is_time:
            scale = UNITS["ms"].scale
        values = [_scaled(value, scale) for value in (budget.value, budget.low, budget.high)]
        limit = _scaled(budget.limit, scale)
        about = "The value a budget was judged by; of times, in seconds."
        page.gauge("budget_value", about, "", labels, values)
        page.gauge("budget_limit", "The limit of a budget, likewise.", "", labels, [limit])


def _scaled(value: float | None, scale: float) -> float | None:
    if value is None:
        return None
    return scale * value


def _stage(page: _Page, row: LedgerRow) -> None:
    labels = {"stage": row.id}
    if row.accuracy:
        scored = labels | {"metric": row.metric or "accuracy"}
        page.gauge("stage_score", "The task's metric after a stage.", "%", scored, row.accuracy)
    page.gauge("stage_size", "The size of a stage's output.", "B", labels, (row.size,))
    page.gauge("stage_parameters", "Parameters after a stage.", "", labels, (row.parameters,))


def _machine(data: ReportData) -> dict[str, str]:
    facts = {"cpu": data.machine.get("cpu"), "cores": logical_cores(data.machine)}
    labels = {name: str(value) for name, value in facts.items() if value is not None}
    libraries = data.machine.get("libraries")
    for name in ("onnxruntime", "onnxruntime-gpu"):
        if isinstance(libraries, dict) and name in libraries:
            labels["onnxruntime"] = str(libraries[name])
    return labels
