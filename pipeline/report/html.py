"""The report as one HTML file that loads nothing and runs no script."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.measure.machine import flat
from pipeline.measure.measurements import CANDIDATE, Latency
from pipeline.report import accuracy, facts, floats, headline, linear, page, wording
from pipeline.report.accuracy import AccuracyView
from pipeline.report.figures.distribution import distribution
from pipeline.report.figures.flips import flips as flips_figure
from pipeline.report.figures.ledger import ledger
from pipeline.report.figures.lineage import lineage
from pipeline.report.figures.reliability import reliability
from pipeline.report.figures.tradeoff import tradeoff
from pipeline.terms import metrics
from pipeline.verdict.record import LineageNode, ReportData

WIDE, HALF, NARROW = 980, 475, 350
"""Widths for which figures are drawn: a wide page, half of one, and a phone. Text is not scaled."""
MAX_SLICES = 24
MAX_CLASSES = 24
MAX_EXAMPLES = 12
MAX_COLUMNS = 10
MAX_CELL = 400
MAX_RECIPE = 60_000
MAX_PARAMETERS = 3_000
MAX_NODES = 60
MAX_LINES = 40
MAX_TARGETS = 6
MAX_MODELS = 24


@dataclass(frozen=True)
class LatencyRow:
    """One model on one target. A percentile is None if there are too few samples for it."""

    model: str
    samples: int
    percentiles: tuple[str | None, ...]
    cpu: str | None
    tokenizer: str | None
    whole: str | None
    cold: str | None
    device: str | None
    fixed: tuple[str | None, ...]


@dataclass(frozen=True)
class TargetView:
    """The contents of one target's section."""

    name: str
    latency: Latency
    rows: list[LatencyRow]
    noise: str | None
    over_float: str | None
    tokens: str | None
    tradeoff: dict[str, str]
    distribution: dict[str, str]


def render(data: ReportData) -> str:
    """Return the page: self-contained, and always under 1 MB."""
    from pipeline.measure.statistics import samples_needed

    filters: dict[str, Callable[..., str]] = {
        "size": wording.size,
        "count": wording.count,
        "duration": wording.duration,
        "percent": wording.percent,
        "kind": wording.kind,
        "title_": metrics.title,
        "score": wording.score,
        "compact": compact,
        "signed": wording.signed,
        "chance": accuracy.chance,
    }
    changed, view = facts.flips(data), accuracy.build(data)
    return page.render(
        "report.html.j2",
        filters,
        data=data,
        main=metrics.title(data.measurements.main if data.measurements else "accuracy"),
        by_class=data.measurements is None or data.measurements.scored_by.by_class,
        head=headline.build(data),
        block=facts.block(data),
        test=facts.test(data),
        needed=samples_needed,
        percentiles=metrics.PERCENTILES,
        chosen=facts.candidate_row(data),
        ledger=_ledger(data),
        beside=facts.beside(data),
        linear=linear.line(data.measurements),
        targets=_targets(data),
        target_count=len(data.measurements.latency) if data.measurements else 0,
        cold_starts=_cold_starts(data),
        flips=changed,
        flips_figure=_flips(changed),
        accuracy=view,
        in_words=accuracy.in_words,
        reliability=_reliability(view),
        max_slices=MAX_SLICES,
        max_classes=MAX_CLASSES,
        max_examples=MAX_EXAMPLES,
        max_columns=MAX_COLUMNS,
        lineage=_lineage(data.lineage[:MAX_NODES]),
        nodes=[_node(node, data.lineage) for node in data.lineage[:MAX_NODES]],
        machine=machine(data),
        recipe=wording.shorten(data.recipe, MAX_RECIPE),
        max_lines=MAX_LINES,
    )


def compact(value: Any, limit: int = MAX_CELL) -> str:
    """Return a value as short text: strings as they are, the rest as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return wording.shorten(text, limit)


def machine(data: ReportData) -> dict[str, str]:
    """Return the machine's properties as flat name -> text."""
    facts = list(flat(data.machine).items())[:MAX_LINES]
    return {name: wording.shorten(fact, 200) for name, fact in facts}


def _ledger(data: ReportData) -> dict[str, str]:
    if not data.ledger:
        return {}
    return {
        "wide": ledger(data, WIDE, "ledger-wide"),
        "narrow": ledger(data, NARROW, "ledger-narrow"),
    }


def _flips(flips: facts.Flips | None) -> dict[str, str]:
    if flips is None or not flips.classes or not flips.differ:
        return {}
    return {
        "wide": flips_figure(flips, 620, "flips-wide"),
        "narrow": flips_figure(flips, NARROW, "flips-narrow"),
    }


def _reliability(view: AccuracyView | None) -> dict[str, str]:
    if view is None or not view.calibration:
        return {}
    bins = {model: calibration.bins for model, calibration in view.calibration.items()}
    return {
        "wide": reliability(bins, HALF, "reliability-wide"),
        "narrow": reliability(bins, NARROW, "reliability-narrow"),
    }


def _lineage(nodes: list[LineageNode]) -> dict[str, str]:
    if not nodes:
        return {}
    return {
        "wide": lineage(nodes, 620, "lineage-wide"),
        "narrow": lineage(nodes, NARROW, "lineage-narrow"),
    }


def _targets(data: ReportData) -> list[TargetView]:
    if data.measurements is None:
        return []
    names = list(data.measurements.latency)[:MAX_TARGETS]
    return [_target(data, name, f"target{index}") for index, name in enumerate(names)]


def _cold_starts(data: ReportData) -> str | None:
    """Return each model's median cold start with its interval; None if no model has enough."""
    from pipeline.measure import cold_start
    from pipeline.measure.statistics import carries

    measured = data.measurements.models if data.measurements else {}
    starts = []
    for name, model in list(measured.items())[:MAX_MODELS]:
        if carries(50, len(model.cold_start)):
            start = cold_start.median(model.cold_start)
            value, low, high = map(wording.significant, start)
            starts.append(f"{name} {value} ms [{low}, {high}]")
    return ", ".join(starts) or None


def _target(data: ReportData, name: str, anchor: str) -> TargetView:
    assert data.measurements is not None
    latency = data.measurements.latency[name]
    compared = [CANDIDATE, facts.reference(data)]
    drawn = {m: s for m in compared if m and any(s := latency.samples.get(m, []))}
    models = facts.points(data, name)[:MAX_MODELS]
    widths = {"wide": HALF, "narrow": NARROW}
    first = {model: place for place, model in enumerate(compared)}
    order = sorted(latency.samples, key=lambda model: first.get(model, len(first)))[:MAX_MODELS]
    return TargetView(
        name=name,
        latency=latency,
        rows=[_latency_row(latency, model) for model in order],
        noise=_noise(latency),
        over_float=floats.over(data.measurements, name),
        tokens=_tokens(latency),
        tradeoff={
            form: tradeoff(models, width, f"{anchor}-tradeoff-{form}", data.measurements.main)
            for form, width in widths.items()
            if models
        },
        distribution={
            form: distribution(drawn, width, f"{anchor}-distribution-{form}")
            for form, width in widths.items()
            if drawn
        },
    )


def _latency_row(latency: Latency, model: str) -> LatencyRow:
    samples = latency.samples[model]
    values = [facts.percentile(samples, percent) for percent in metrics.PERCENTILES]
    return LatencyRow(
        model,
        sum(map(len, samples)),
        tuple(None if value is None else wording.significant(value) for value in values),
        _median(latency.cpu.get(model, [])),
        _median(latency.tokenizer.get(model, [])),
        _median(latency.calls(model, whole=True)),
        _median(latency.calls(model, cold=True)),
        _median(latency.device.get(model, [])),
        tuple(_median(models.get(model, [])) for models in latency.fixed.values()),
    )


def _median(samples: list[list[float]]) -> str | None:
    value = facts.median(samples)
    return None if value is None else wording.significant(value)


def _noise(latency: Latency) -> str | None:
    if latency.noise is None:
        return None
    low, high = latency.noise
    return f"{low:.3f} – {high:.3f}"


def _tokens(latency: Latency) -> str | None:
    if not latency.tokens:
        return None
    lengths = sorted(latency.tokens)
    middle = lengths[len(lengths) // 2]
    return f"{lengths[0]} to {lengths[-1]} tokens, median {middle}"


def _node(node: LineageNode, nodes: list[LineageNode]) -> dict[str, Any]:
    names = {other.digest: other.id for other in nodes}
    parents = [
        {"name": names.get(digest, digest[:12]), "digest": digest[:12], "role": role}
        for digest, role in list(node.parents.items())[:MAX_LINES]
    ]
    parameters = json.dumps(node.parameters, indent=2, ensure_ascii=False, default=str)
    metrics = [
        (str(m.get("name")), m.get("split"), _number(m.get("value")))
        for m in node.metrics[:MAX_LINES]
    ]
    return {
        "node": node,
        "parents": parents,
        "parameters": wording.shorten(parameters, MAX_PARAMETERS) if node.parameters else "",
        "metrics": metrics,
    }


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else compact(value, 60)
