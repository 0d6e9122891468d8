"""What a run has gained: the original model and the compressed one side by side, and what to do."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

from rich.table import Table

from rarefy.pipeline.measure.measurements import CANDIDATE, FASTEST_FLOAT, Measurements
from rarefy.pipeline.report import advice as advising
from rarefy.pipeline.report import facts
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms import metrics
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.wording import (
    bounds,
    milliseconds,
    percent,
    plural,
    quantity,
    significant,
    size,
    times,
)
from rarefy.pipeline.verdict.record import ReportData
from rarefy.pipeline.verdict.verdict import Verdict


def original(data: ReportData) -> str | None:
    """Return the model that was compressed; None if only the compressed one was measured.

    That is the checkpoint that most budgets name, or else the first: a release of before, which a
    budget may name too, is compressed itself.
    """
    measured = data.measurements
    if measured is None:
        return None
    checkpoints = []
    for name in measured.references:
        if name != FASTEST_FLOAT and name not in measured.baselines:
            checkpoints.append(name)
    named = facts.reference(data)
    if named in checkpoints or not checkpoints:
        return named
    return checkpoints[0]


def gains_table(data: ReportData) -> Table | None:
    """Return the main score, the times on each target, and the size, before and after.

    Returns None if nothing was measured.
    """
    measured = data.measurements
    if measured is None or CANDIDATE not in measured.models:
        return None
    name = original(data)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("", no_wrap=True)
    if name is not None:
        table.add_column("original", justify="right", no_wrap=True)
    table.add_column("compressed", justify="right", no_wrap=True)
    table.add_column("change", no_wrap=True)
    rows = [_score_row(measured, name)]
    for target in measured.latency:
        rows.append(_latency_row(measured, name, target))
    for target in measured.throughput:
        rows.append(_throughput_row(measured, name, target))
    rows.append(_size_row(measured, name))
    for title, before, after, change in rows:
        if not after:
            continue
        if name is None:
            table.add_row(title, after, change)
        else:
            table.add_row(title, before, after, change)
    return table


Row = tuple[str, str, str, str]
"""A quantity, its value before and after, and the change. Without an original, only the latter."""


def _score_row(measured: Measurements, name: str | None) -> Row:
    from rarefy.pipeline.measure.predictions import floor

    main = measured.main
    title = main.replace("_", " ")
    unit = metrics.unit(main)
    if not measured.truth:
        return title, "", "", ""
    score = measured.score(main, CANDIDATE)
    if name is None:
        return title, "", bounds(score, unit), ""
    after = _share_or_number(score.value, unit)
    before = _share_or_number(measured.score(main, name).value, unit)
    ours, theirs = measured.table(CANDIDATE), measured.table(name)
    share = measured.compare(main, ours, theirs).ratio
    change = ""
    if all(map(math.isfinite, share)) and not floor.of_model(measured, name):
        change = f"{percent(share.value)} retained [{_percents(share)}]"
    return title, before, after, change


def _share_or_number(value: float, unit: str) -> str:
    if unit == "%":
        return percent(value)
    return significant(value)


def _percents(interval: Interval) -> str:
    return f"{100 * interval.low:.1f}, {100 * interval.high:.1f}"


def _latency_row(measured: Measurements, name: str | None, target: str) -> Row:
    timed = measured.latency[target]
    title = "latency p50"
    if len(measured.latency) > 1:
        title = f"p50 on {target}"
    if not any(timed.samples.get(CANDIDATE, [])):
        return title, "", "", ""
    latency = timed.percentile(CANDIDATE, 50)
    after = milliseconds(latency.value)
    if name is None or not any(timed.samples.get(name, [])):
        return title, "", bounds(latency, "ms"), ""
    before = milliseconds(timed.percentile(name, 50).value)
    ratio = timed.ratio(name, CANDIDATE)
    return title, before, after, _ratio(ratio, "faster", "slower")


def _throughput_row(measured: Measurements, name: str | None, target: str) -> Row:
    timed = measured.throughput[target]
    title = "throughput"
    if len(measured.throughput) > 1:
        title = f"throughput on {target}"
    if CANDIDATE not in timed.samples:
        return title, "", "", ""
    ours = timed.rate(CANDIDATE)
    if name is None or name not in timed.samples:
        return title, "", bounds(ours, "rows/s"), ""
    before = quantity(timed.rate(name).value, "rows/s")
    ratio = timed.ratio(CANDIDATE, name)
    return title, before, quantity(ours.value, "rows/s"), _ratio(ratio, "faster", "slower")


def _size_row(measured: Measurements, name: str | None) -> Row:
    ours = measured.models[CANDIDATE].size
    if name is None:
        return "size", "", size(ours), ""
    theirs = measured.models[name].size
    ratio = theirs / max(ours, 1)
    return (
        "size",
        size(theirs),
        size(ours),
        _ratio(Interval(ratio, ratio, ratio), "smaller", "larger"),
    )


def _ratio(ratio: Interval, better: str, worse: str) -> str:
    """Return ``10.7× faster [10.2, 11.3]``, or how much slower it is."""
    value, low, high = ratio
    word = better
    if value < 1 and low > 0:
        value, low, high = 1 / value, 1 / high, 1 / low
        word = worse
    text = f"{times(value)} {word}"
    if low == high:
        return text
    return f"{text} [{significant(low)}, {significant(high)}]"


def legend(data: ReportData) -> str:
    """Return in a line what the two models of ``gains_table`` are; empty without an original."""
    name = original(data)
    if name is None or data.measurements is None:
        return ""
    form = "in fp32 on ONNX Runtime"
    if name in data.measurements.baselines:
        form = "as tagged"
    timings = ""
    for timed in data.measurements.latency.values():
        timings = f"; batch 1, {plural(timed.threads, 'thread')}"
        break
    return f"original: {name} {form}{timings}"


def advice(verdict: Verdict | None, measured: Measurements | None) -> list[str]:
    """Return why budgets are inconclusive, and what would decide them, in a line each."""
    if verdict is None or measured is None:
        return []
    lines = []
    if verdict.evidence:
        lines.append(advising.of_timing(measured))
    for budget in verdict.budgets:
        if budget.outcome == "inconclusive":
            lines.append(advising.of(budget, measured).text)
    distinct = dict.fromkeys(lines)
    return [f"inconclusive: {line[0].lower()}{line[1:]}" for line in distinct]


def next_command(bundle: Path, home: Home, *, pairs: bool) -> str:
    """Return the command that answers with a run's bundle: by the run's name, or the folder's.

    ``pairs``: it reads pairs.
    """
    words = ["rarefy", "predict"]
    if bundle.parent.parent == home.runs:
        words.append(bundle.parent.name)
        if home != Home.of(None):
            words += ["--home", str(home.path)]
    else:
        words.append(str(bundle))
    command = shlex.join(words)
    if pairs:
        return f'{command} --pair "…" "…"'
    return f'{command} "…"'
