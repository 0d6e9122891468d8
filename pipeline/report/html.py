"""The report as one HTML file that loads nothing and runs no script."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rarefy.pipeline.measure.measurements import CANDIDATE, Latency, Measurements
from rarefy.pipeline.measure.rows_per_second import Throughput
from rarefy.pipeline.report import (
    accuracy,
    disagreements,
    facts,
    headline,
    machine,
    throughput,
    use,
    wording,
)
from rarefy.pipeline.report.figures.distribution import distribution
from rarefy.pipeline.report.figures.ledger import ledger
from rarefy.pipeline.report.figures.losses import losses
from rarefy.pipeline.report.figures.tradeoff import tradeoff
from rarefy.pipeline.terms import metrics
from rarefy.pipeline.terms.outcomes import SYMBOL
from rarefy.pipeline.verdict.record import LineageNode, ReportData

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER: Final = Path(__file__).parent
WIDE, HALF, NARROW = 980, 475, 350
"""Widths that figures are drawn for: a wide page, parts of one, a phone. Text is not scaled."""
MAX_CELL = 400
MAX_RECIPE = 60_000
MAX_PARAMETERS = 3_000
MAX_NODES = 60
MAX_LINES = 40
MAX_TARGETS = 6
MAX_MODELS = 24
MAX_CURVES = 12
LIMITS: Final[dict[str, Any]] = {
    "max_slices": 24,
    "max_classes": 24,
    "max_cells": 24,
    "max_examples": 12,
    "max_lines": MAX_LINES,
}
"""How much of a table the template shows."""
Figure = dict[str, str]
"""A figure for a wide page and for a phone: ``wide`` and ``narrow`` -> SVG."""


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
    slowest: str | None
    over_float: str | None
    tokens: str | None
    figures: dict[str, Figure]
    throughput: Throughput | None


def render(data: ReportData) -> str:
    """Return the page: self-contained, and always under 1 MB."""
    from rarefy.pipeline.measure.statistics.intervals import samples_needed

    filters: dict[str, Callable[..., str]] = {
        "kind": wording.kind,
    }
    for name in ("size", "count", "duration", "percent", "score", "signed"):
        filters[name] = getattr(wording, name)
    main = "accuracy"
    target_count = 0
    cold_starts = None
    by_class = True
    measured = data.measurements
    if measured:
        main = measured.main
        target_count = len(measured.latency)
        cold_starts = _cold_starts(measured)
        by_class = "ece" in measured.scored_by.scorer.formulas(measured.truth)
    view = accuracy.build(data)
    changed = facts.flips(data)
    nodes = [_node(node, data.lineage) for node in data.lineage[:MAX_NODES]]
    figures = _figures(data)
    recipe = wording.shorten(data.recipe, MAX_RECIPE)
    budgets = []
    if data.verdict is not None:
        budgets = headline.by_urgency(data.verdict.budgets)
    return render_page(
        "report.html.j2",
        filters,
        **LIMITS,
        data=data,
        facts=facts,
        throughput=throughput,
        main=metrics.title(main),
        by_class=by_class,
        head=headline.build(data),
        needed=samples_needed,
        percentiles=metrics.PERCENTILES,
        figures=figures,
        targets=_targets(data),
        target_count=target_count,
        cold_starts=cold_starts,
        flips=changed,
        accuracy=view,
        describe_test=accuracy.describe_test,
        nodes=nodes,
        machine=machine.words(data.machine),
        budgets=budgets,
        disagreements=disagreements.FILE,
        use=use.build(data),
        recipe=recipe,
    )


def render_page(
    template: str,
    filters: Mapping[str, Callable[..., str]],
    folder: Path = FOLDER,
    **values: Any,
) -> str:
    """Render a template with the style and filters that all pages share.

    Args:
        template: The template's file name.
        filters: The filters of this page alone.
        folder: The folder of the template and of ``report.css``.
        values: The values of the template; one that it lacks raises jinja2's UndefinedError.
    """
    from markupsafe import Markup

    environment = _environment(folder)
    environment.filters |= filters
    style = (folder / "report.css").read_text()
    page = environment.get_template(template)
    return page.render(css=Markup(style), **values)  # noqa: S704 (our own file)


@cache
def _environment(folder: Path) -> Environment:
    """Return what compiles a folder's templates, once for all pages of this process."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"svg": Markup, "plural": wording.plural}
    environment.filters |= {"title_": metrics.title, "compact": compact}
    environment.globals |= {"symbols": SYMBOL, "wording": wording}
    return environment


def compact(value: Any, limit: int = MAX_CELL) -> str:
    """Return a value as short text: strings as they are, the rest as JSON."""
    text = value
    if not isinstance(value, str):
        text = _json(value)
    return wording.shorten(text, limit)


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False, default=str)


def _figures(data: ReportData) -> dict[str, Any]:
    """Return the figures that the run has data for, but those of targets."""
    figures: dict[str, Any] = {"losses": _curves(data)}
    if data.ledger:
        figures["ledger"] = draw(partial(ledger, data), "ledger", WIDE)
    return figures


def _curves(data: ReportData) -> list[Figure]:
    """Return a figure for each training whose losses are recorded."""
    curves: list[Figure] = []
    for node in data.lineage[:MAX_NODES]:
        for name, curve in node.curves.items():
            title = node.id
            if len(node.curves) > 1:
                title += f", {name}"
            figure = partial(losses, curve, title)
            curves.append(draw(figure, f"losses{len(curves)}", HALF))
    return curves[:MAX_CURVES]


def draw(figure: Callable[[int, str], str], name: str, width: int) -> Figure:
    """Draw a figure twice: ``width`` pixels wide, and for a phone."""
    wide = figure(width, f"{name}-wide")
    narrow = figure(NARROW, f"{name}-narrow")
    return {"wide": wide, "narrow": narrow}


def _cold_starts(measured: Measurements) -> str | None:
    """Return each model's median cold start with its interval; None if no model has enough."""
    from rarefy.pipeline.measure.memory import cold_start
    from rarefy.pipeline.measure.statistics.intervals import carries

    starts = []
    for name, model in list(measured.models.items())[:MAX_MODELS]:
        if carries(50, len(model.cold_start)):
            median = cold_start.median(model.cold_start)
            value, low, high = map(wording.significant, median)
            interval = f"[{low}, {high}]"
            starts.append(f"{name} {value} ms {interval}")
    return ", ".join(starts) or None


def _targets(data: ReportData) -> list[TargetView]:
    names = []
    if data.measurements:
        names = list(data.measurements.latency)
    views = []
    for index, name in enumerate(names[:MAX_TARGETS]):
        views.append(_target(data, name, f"target{index}"))
    return views


def _target(data: ReportData, name: str, anchor: str) -> TargetView:
    measured = data.measurements
    assert measured is not None
    latency = measured.latency[name]
    models = facts.points(data, name)[:MAX_MODELS]
    figures = {}
    if models:
        scatter = partial(tradeoff, models, metric=measured.main)
        figures["tradeoff"] = draw(scatter, f"{anchor}-tradeoff", HALF)
    samples = facts.compared_samples(data, name)
    if samples:
        curves = partial(distribution, samples)
        figures["distribution"] = draw(curves, f"{anchor}-distribution", HALF)
    rest = [model for model in latency.samples if model not in samples]
    shown = [*samples, *rest][:MAX_MODELS]
    rows = []
    for model in shown:
        rows.append(_latency_row(latency, model))
    return TargetView(
        name=name,
        latency=latency,
        rows=rows,
        noise=_noise(latency),
        slowest=_slowest(latency),
        over_float=facts.float_speedup(measured, name),
        tokens=_tokens(latency),
        figures=figures,
        throughput=measured.throughput.get(name),
    )


def _latency_row(latency: Latency, model: str) -> LatencyRow:
    samples = latency.samples[model]
    percentiles = [facts.percentile(samples, percent) for percent in metrics.PERCENTILES]
    fixed = [_median(models.get(model, [])) for models in latency.fixed.values()]
    return LatencyRow(
        model=model,
        samples=sum(map(len, samples)),
        percentiles=tuple(map(_shown, percentiles)),
        cpu=_median(latency.cpu.get(model, [])),
        tokenizer=_median(latency.tokenizer.get(model, [])),
        whole=_median(latency.calls(model, whole=True)),
        cold=_median(latency.calls(model, cold=True)),
        device=_median(latency.device.get(model, [])),
        fixed=tuple(fixed),
    )


def _shown(value: float | None) -> str | None:
    if value is None:
        return None
    return wording.significant(value)


def _median(samples: list[list[float]]) -> str | None:
    return _shown(facts.median(samples))


def _noise(latency: Latency) -> str | None:
    if latency.noise is None:
        return None
    low, high = latency.noise
    return wording.span(f"{low:.3f}", f"{high:.3f}")


def _slowest(latency: Latency) -> str | None:
    """Return how many times as long the candidate's slowest process took as the middle one."""
    if CANDIDATE not in latency.samples:
        return None
    slowest = latency.slowest(CANDIDATE)
    return f"{slowest:.2f}"


def _tokens(latency: Latency) -> str | None:
    if not latency.tokens:
        return None
    lengths = sorted(latency.tokens)
    middle = len(lengths) // 2
    return f"{lengths[0]} to {lengths[-1]} tokens, median {lengths[middle]}"


def _node(node: LineageNode, nodes: list[LineageNode]) -> dict[str, Any]:
    names = {other.digest: other.id for other in nodes}
    parents = []
    for digest, role in list(node.parents.items())[:MAX_LINES]:
        short = digest[:12]
        name = names.get(digest, short)
        parents.append({"name": name, "digest": short, "role": role})
    scores = []
    for metric in node.metrics[:MAX_LINES]:
        name = str(metric.get("name"))
        value = _number(metric.get("value"))
        scores.append((name, metric.get("split"), value))
    parameters = ""
    if node.parameters:
        parameters = _json(node.parameters, 2)
    return {
        "node": node,
        "parents": parents,
        "parameters": wording.shorten(parameters, MAX_PARAMETERS),
        "metrics": scores,
    }


def _number(value: Any) -> str:
    if isinstance(value, int | float):
        return f"{value:.6g}"
    return compact(value, 60)
