"""The report's first sentence and its three numbers: faster, smaller, accuracy retained."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rarefy.pipeline.measure.measurements import CANDIDATE
from rarefy.pipeline.report import facts, wording
from rarefy.pipeline.terms import metrics
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.outcomes import SYMBOL, Outcome
from rarefy.pipeline.verdict.record import ReportData
from rarefy.pipeline.verdict.verdict import LINEAR_BASELINE, BudgetResult


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
    numbers = tuple(filter(None, (_speed(data), _size(data), _score(data))))
    if data.verdict is None or not data.verdict.budgets:
        word = "Measured, not judged"
        if data.measurements is None:
            word = "Not validated"
        return Headline(None, "○", word, _unjudged(data), numbers)
    outcome = data.verdict.outcome
    sentence = _judged(data.verdict.budgets)
    words = f"{sentence} {first_release(data.absent)}".strip()
    return Headline(outcome, SYMBOL[outcome], outcome.capitalize(), words, numbers)


def _judged(results: Sequence[BudgetResult]) -> str:
    """Return how many budgets are met, missed and inconclusive, and of the linear baseline."""
    budgets = [result for result in results if not result.is_linear_baseline]
    sentences = []
    if budgets:
        sentences.append(_counted(budgets))
    for result in results:
        if result.is_linear_baseline and result.outcome != "pass":
            verb = "is" if result.outcome == "fail" else "may be"
            sentences.append(f"The {LINEAR_BASELINE} {verb} at least as good.")
        elif result.is_linear_baseline and not budgets:
            sentences.append(f"It is better than the {LINEAR_BASELINE}.")
    return " ".join(sentences)


def _counted(budgets: Sequence[BudgetResult]) -> str:
    """Return how many budgets are met, missed and inconclusive."""
    outcomes = Counter(budget.outcome for budget in budgets)
    total = wording.plural(len(budgets), "budget")
    if outcomes["pass"] == len(budgets):
        if len(budgets) > 1:
            return f"All {total} met."
        return "The only budget is met."
    parts = [f"{outcomes['pass']} of {total} met"]
    missed = [budget for budget in budgets if budget.outcome == "fail"]
    if missed:
        parts.append(f"{len(missed)} missed{_of_level_warn(missed)}")
    undecided = [budget for budget in budgets if budget.outcome == "inconclusive"]
    if undecided:
        parts.append(f"{len(undecided)} inconclusive{_of_level_warn(undecided)}")
    return "; ".join(parts) + "."


def _of_level_warn(budgets: Sequence[BudgetResult]) -> str:
    """Return how many of some budgets are warnings only, in brackets; empty if none is."""
    warnings = sum(budget.level == "warn" for budget in budgets)
    if not warnings:
        return ""
    if warnings == len(budgets):
        return " (a warning only)"
    return f" ({warnings} as a warning only)"


def first_release(absent: Sequence[str]) -> str:
    """Say with which tags nothing was compared; empty if no tag was absent."""
    if not absent:
        return ""
    verb = "do"
    if len(absent) == 1:
        verb = "does"
    tags = " and ".join(absent)
    return f"First release: nothing was compared with {tags}, which {verb} not exist yet."


def _unjudged(data: ReportData) -> str:
    if data.absent:
        return first_release(data.absent)
    if data.measurements is not None:
        return "The recipe has no budgets, so there is no verdict."
    row = facts.candidate_row(data)
    if row is None:
        return "No stage has finished yet."
    properties = wording.size(row.size)
    if row.accuracy:
        score = wording.score(row.accuracy[0], row.metric)
        properties += f", {row.metric or 'accuracy'} {score}"
    advice = "Add the stage validate and budgets to get a verdict."
    return f"The chain ends at {row.id} ({properties}). {advice}"


def _speed(data: ReportData) -> Number | None:
    name = facts.reference(data)
    measured = data.measurements
    if measured is None or name is None or not measured.latency:
        return None
    target, latency = next(iter(measured.latency.items()))
    ratio = facts.speedup(data, target)
    if ratio is None:
        return None
    ours, theirs = (facts.median(latency.samples[model]) or 0.0 for model in (CANDIDATE, name))
    form = "in fused fp32 ONNX Runtime"
    if name in measured.baselines:
        form = "as tagged"
    times = f"p50: compressed {wording.milliseconds(ours)}, original {wording.milliseconds(theirs)}"
    threads = wording.plural(latency.threads, "thread")
    detail = f"{times} ({name} {form}), on {target} with {threads}"
    over_float = facts.float_speedup(measured, target)
    if over_float:
        detail += f"; {over_float}"
    return _comparison(ratio, "faster", "slower", detail)


def _size(data: ReportData) -> Number | None:
    sides = facts.compared(data)
    if sides is None:
        return None
    measured, name = sides
    ours = measured.models[CANDIDATE].size
    theirs = measured.models[name].size
    sizes = f"compressed {wording.size(ours)}, original {wording.size(theirs)} ({name})"
    detail = f"{sizes}, counting every file needed for inference"
    ratio = theirs / max(ours, 1)
    return _comparison(Interval(ratio, ratio, ratio), "smaller", "larger", detail)


def _comparison(ratio: Interval, better: str, worse: str, detail: str) -> Number:
    value = ratio.value
    low = ratio.low
    high = ratio.high
    word = better
    if value < 1:
        value, low, high, word = 1 / value, 1 / high, 1 / low, worse
    interval = None
    if low != high:
        interval = f"{wording.times(low)} – {wording.times(high)}"
    return Number(wording.times(value), word, interval, detail)


def _score(data: ReportData) -> Number | None:
    """Return the share of the reference's score that is retained."""
    share = facts.retained(data)
    sides = facts.compared(data)
    if share is None or sides is None:
        return None
    measured, name = sides
    if measured.unlabelled:
        return _agreement(data)
    meaning = f"of {metrics.title(measured.main).lower()} retained"
    detail = ""
    ours = facts.accuracy(data, CANDIDATE)
    theirs = facts.accuracy(data, name)
    if ours and theirs:
        score = wording.score(ours.value, measured.main)
        base = wording.score(theirs.value, measured.main)
        detail = f"compressed {score}, original {base} ({name}), on {facts.evaluated(data)}"
    reason = facts.learned_nothing(data)
    if reason:
        return Number("–", meaning, None, f"{name} {reason}; {detail}")
    interval = None
    if math.isfinite(share.low) and math.isfinite(share.high):
        interval = _percentages(share)
    return Number(wording.percent(share.value), meaning, interval, detail)


def _percentages(interval: Interval) -> str:
    return f"{wording.percent(interval.low)} – {wording.percent(interval.high)}"


def _agreement(data: ReportData) -> Number | None:
    """Return how often the candidate agrees with the model whose predictions serve as labels."""
    share = facts.accuracy(data, CANDIDATE)
    if share is None:
        return None
    detail = f"data without labels; on {facts.evaluated(data)}"
    nats = facts.divergence(data)
    if nats is not None:
        value, low, high = map(wording.significant, nats)
        detail += f", KL divergence {value} nats [{low}, {high}]"
    agreement = wording.percent(share.value)
    return Number(agreement, "agreement with the model", _percentages(share), detail)
