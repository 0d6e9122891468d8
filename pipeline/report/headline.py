"""The report's first sentence and its three numbers: faster, smaller, accuracy retained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.measure.measurements import CANDIDATE
from pipeline.report import facts, floats, wording
from pipeline.terms import metrics
from pipeline.terms.interval import Interval
from pipeline.terms.outcomes import SYMBOL, Outcome
from pipeline.verdict.record import ReportData


@dataclass(frozen=True)
class Number:
    """One headline number: the figure, its meaning, its interval, and how it was obtained."""

    figure: str
    meaning: str
    interval: str | None
    detail: str


@dataclass(frozen=True)
class Headline:
    """The banner. ``outcome`` is None if no budget was judged."""

    outcome: Outcome | None
    symbol: str
    word: str
    sentence: str
    numbers: tuple[Number, ...]


def build(data: ReportData) -> Headline:
    """Return the verdict in one sentence and the headline numbers that were measured."""
    numbers = tuple(_speed(data) + _smaller(data) + _kept(data))
    if data.verdict is None or not data.verdict.budgets:
        word = "Not validated" if data.measurements is None else "Measured, not judged"
        return Headline(None, "○", word, _unjudged(data), numbers)
    outcome = data.verdict.outcome
    return Headline(outcome, SYMBOL[outcome], outcome.capitalize(), _judged(data), numbers)


def _judged(data: ReportData) -> str:
    budgets = data.verdict.budgets if data.verdict else []
    missed = [b for b in budgets if b.outcome == "fail"]
    met = len(budgets) - sum(b.outcome != "pass" for b in budgets)
    open_ = [b for b in budgets if b.outcome == "inconclusive"]
    total = wording.plural(len(budgets), "budget")
    if not missed and not open_:
        met_all = f"All {total} met." if len(budgets) > 1 else "The only budget is met."
        return f"{met_all} {first_release(data.absent)}".strip()
    parts = [f"{met} of {total} met"]
    if missed:
        warn = sum(b.level == "warn" for b in missed)
        parts.append(f"{len(missed)} missed" + _warnings(warn, len(missed)))
    if open_:
        parts.append(f"{len(open_)} inconclusive")
    return f"{'; '.join(parts)}. {first_release(data.absent)}".strip()


def first_release(absent: Sequence[str]) -> str:
    """Say with which tags nothing was compared; empty if no tag was absent."""
    if not absent:
        return ""
    verb = "does" if len(absent) == 1 else "do"
    tags = " and ".join(absent)
    return f"First release: nothing was compared with {tags}, which {verb} not exist yet."


def _warnings(count: int, of: int) -> str:
    if count == 0:
        return ""
    return " (a warning only)" if count == of else f" ({count} as a warning only)"


def _unjudged(data: ReportData) -> str:
    if data.absent:
        return first_release(data.absent)
    if data.measurements is not None:
        return "The recipe has no budgets, so there is no verdict."
    row = facts.candidate_row(data)
    if row is None:
        return "No stage has finished yet."
    text = f"The chain ends at {row.id} ({wording.size(row.size)}"
    if row.accuracy:
        text += f", {row.metric or 'accuracy'} {wording.score(row.accuracy[0], row.metric)}"
    return f"{text}). Add the stage validate and budgets to get a verdict."


def _speed(data: ReportData) -> list[Number]:
    from pipeline.measure.statistics import percentile_of

    name, measured = facts.reference(data), data.measurements
    if measured is None or name is None or not measured.latency:
        return []
    target, latency = next(iter(measured.latency.items()))
    ratio = facts.speedup(data, target)
    if ratio is None:
        return []
    theirs, ours = (percentile_of(latency.samples[model], 50) for model in (name, CANDIDATE))
    as_what = "as it is tagged" if name in measured.baselines else "in fused fp32 ONNX Runtime"
    detail = (
        f"p50 {wording.milliseconds(ours)} against {wording.milliseconds(theirs)} for {name} "
        f"{as_what}, on {target} with {wording.plural(latency.threads, 'thread')}"
    )
    if over := floats.over(measured, target):
        detail += f"; {over}"
    return [_comparison(ratio, "faster", "slower", detail)]


def _smaller(data: ReportData) -> list[Number]:
    name, measured = facts.reference(data), data.measurements
    if measured is None or name is None or CANDIDATE not in measured.models:
        return []
    ours, theirs = measured.models[CANDIDATE].size, measured.models[name].size
    detail = (
        f"{wording.size(ours)} against {wording.size(theirs)} for {name}, "
        "counting every file needed for inference"
    )
    ratio = theirs / max(ours, 1)
    return [_comparison(Interval(ratio, ratio, ratio), "smaller", "larger", detail)]


def _comparison(ratio: Interval, better: str, worse: str, detail: str) -> Number:
    value, low, high, word = ratio.value, ratio.low, ratio.high, better
    if value < 1:
        value, low, high, word = 1 / value, 1 / high, 1 / low, worse
    interval = None if low == high else f"{wording.times(low)} – {wording.times(high)}"
    return Number(wording.times(value), word, interval, detail)


def _kept(data: ReportData) -> list[Number]:
    kept, name = facts.retained(data), facts.reference(data)
    if kept is None or name is None:
        return []
    if data.measurements and data.measurements.unlabelled:
        return _agreeing(data)
    interval = None
    if math.isfinite(kept.low) and math.isfinite(kept.high):
        interval = f"{wording.percent(kept.low)} – {wording.percent(kept.high)}"
    ours, theirs = facts.accuracy(data, CANDIDATE), facts.accuracy(data, name)
    detail = ""
    if ours and theirs and data.measurements:
        each = [wording.score(side.value, data.measurements.main) for side in (ours, theirs)]
        detail = f"{each[0]} against {each[1]} for {name} on {facts.evaluated(data)}"
    main = metrics.title(data.measurements.main).lower() if data.measurements else "accuracy"
    if said := facts.learned_nothing(data):
        return [Number("–", f"of {main} retained", None, f"{name} {said}; {detail}")]
    return [Number(wording.percent(kept.value), f"of {main} retained", interval, detail)]


def _agreeing(data: ReportData) -> list[Number]:
    """Return how often the candidate answers as the model whose answers are the truth."""
    measured, share = data.measurements, facts.accuracy(data, CANDIDATE)
    if measured is None or share is None:
        return []
    detail = f"data without labels; on {facts.evaluated(data)}"
    nats = facts.divergence(data)
    if nats is not None:
        low, high = wording.significant(nats.low), wording.significant(nats.high)
        detail += f", KL divergence {wording.significant(nats.value)} nats [{low}, {high}]"
    interval = f"{wording.percent(share.low)} – {wording.percent(share.high)}"
    return [Number(wording.percent(share.value), "agreement with the model", interval, detail)]
