"""The report's first sentence and its three numbers: faster, smaller, accuracy retained."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rarefy.pipeline.measure.measurements import CANDIDATE, Latency, Measurements
from rarefy.pipeline.report import advice, facts, guide, wording
from rarefy.pipeline.report.advice import Advice
from rarefy.pipeline.terms import metrics
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.outcomes import ORDER, SYMBOL, Outcome
from rarefy.pipeline.verdict.record import ReportData
from rarefy.pipeline.verdict.verdict import LINEAR_BASELINE, BudgetResult


@dataclass(frozen=True)
class Number:
    """One headline number.

    ``figure``   the number
    ``meaning``  what it is, such as ``faster``
    ``interval`` its interval in words; None if it is exact
    ``detail``   how it was obtained
    ``bounds``   what kind of interval it is
    ``clear``    False if its interval includes no change
    ``caution``  what disturbed its measurement; None if nothing did
    """

    figure: str
    meaning: str
    interval: str | None
    detail: str
    clear: bool = True
    caution: str | None = None
    bounds: str = "95% confidence interval"


@dataclass(frozen=True)
class Unmet:
    """A budget that is missed or inconclusive: what it requires, and what to do."""

    outcome: Outcome
    title: str
    requirement: str
    measured: str
    warning: bool
    advice: Advice
    address: str | None


@dataclass(frozen=True)
class Headline:
    """The banner. ``outcome`` is None if no budget was judged; ``unmet`` has the missed first."""

    outcome: Outcome | None
    symbol: str
    word: str
    sentence: str
    numbers: tuple[Number, ...]
    unmet: tuple[Unmet, ...] = ()


def build(data: ReportData) -> Headline:
    """Return the verdict in one sentence and the headline numbers that were measured."""
    numbers = tuple(filter(None, (_speed(data), _size(data), _score(data))))
    if data.verdict is None or not data.verdict.budgets:
        word = "Measured, not judged"
        if data.measurements is None:
            word = "Not validated"
        return Headline(None, "○", word, _unjudged(data), numbers)
    outcome = data.verdict.outcome
    budgets = data.verdict.budgets
    words = f"{judged(budgets)} {first_release(data.absent)}".strip()
    lines = tuple(unmet(budgets, data.measurements))
    return Headline(outcome, SYMBOL[outcome], outcome.capitalize(), words, numbers, lines)


def by_urgency(results: Sequence[BudgetResult]) -> list[BudgetResult]:
    """Return budgets in the order of a reader's interest: missed, inconclusive, met.

    Within an outcome, those that decide the verdict come before warnings.
    """
    ordered = sorted(results, key=lambda result: result.level == "warn")
    return sorted(ordered, key=lambda result: -ORDER.index(result.outcome))


def unmet(results: Sequence[BudgetResult], measured: Measurements | None) -> list[Unmet]:
    """Return the budgets that are not met, the missed first, each with its advice."""
    lines = []
    for result in by_urgency(results):
        if result.outcome == "pass":
            continue
        shown = "nothing"
        if result.value is not None and math.isfinite(result.value):
            shown = wording.budget_value(result, result.value)
        proposal = advice.of(result, measured)
        line = Unmet(
            outcome=result.outcome,
            title=title(result),
            requirement=wording.requirement(result),
            measured=shown,
            warning=result.level == "warn",
            advice=proposal,
            address=guide.address(proposal.page, guide.site()),
        )
        lines.append(line)
    return lines


def title(result: BudgetResult) -> str:
    """Return what a budget is on: ``Recall (label=SSN) on cpu``."""
    words = metrics.title(result.metric)
    if result.cell is not None:
        words += f" ({wording.shorten(result.cell, 60)})"
    if result.place is not None:
        words += f" on {result.place}"
    return words


def judged(results: Sequence[BudgetResult]) -> str:
    """Return how many budgets are met, missed and inconclusive, and of the linear baseline."""
    budgets = [result for result in results if not result.is_linear_baseline]
    linear = [result for result in results if result.is_linear_baseline]
    counted = ""
    if budgets:
        counted = _counted(budgets)
    for result in linear:
        if result.outcome == "pass" and counted:
            return f"{counted}; better than the {LINEAR_BASELINE}."
        if result.outcome == "pass":
            return f"Better than the {LINEAR_BASELINE}."
        verb = "may be"
        if result.outcome == "fail":
            verb = "is"
        rival = f"The {LINEAR_BASELINE} {verb} at least as good."
        return f"{counted}. {rival}".removeprefix(". ")
    return f"{counted}."


def _counted(budgets: Sequence[BudgetResult]) -> str:
    """Return how many budgets are met, missed and inconclusive, without a full stop."""
    outcomes = Counter(budget.outcome for budget in budgets)
    total = wording.plural(len(budgets), "budget")
    if outcomes["pass"] == len(budgets):
        if len(budgets) > 1:
            return f"All {total} met"
        return "The only budget is met"
    if len(budgets) == 1:
        word = "inconclusive"
        if outcomes["fail"]:
            word = "missed"
        return f"The only budget is {word}{_of_level_warn(budgets)}"
    parts = [f"{outcomes['pass']} of {total} met"]
    missed = [budget for budget in budgets if budget.outcome == "fail"]
    if missed:
        parts.append(f"{len(missed)} missed{_of_level_warn(missed)}")
    undecided = [budget for budget in budgets if budget.outcome == "inconclusive"]
    if undecided:
        parts.append(f"{len(undecided)} inconclusive{_of_level_warn(undecided)}")
    return "; ".join(parts)


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
    number = comparison(ratio, "faster", "slower", detail)
    return cautioned(number, latency)


def cautioned(number: Number, latency: Latency) -> Number:
    """Return a number on times with what disturbed them."""
    return replace(number, caution=_unrest(latency))


def _unrest(latency: Latency) -> str | None:
    """Return what disturbed a target's times, in one line; None if nothing did."""
    if latency.throttled:
        return latency.throttled
    if not latency.busy:
        return None
    first, *others = latency.busy
    line = f"busy machine: {first}"
    if others:
        line += f"; {wording.plural(len(others), 'more note')} below"
    return line


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
    return comparison(Interval(ratio, ratio, ratio), "smaller", "larger", detail)


def comparison(ratio: Interval, better: str, worse: str, detail: str) -> Number:
    """Return a ratio as a number above 1: ``2.00× faster``, or slower.

    Args:
        ratio: The reference's value divided by the candidate's.
        better: The word for a ratio above 1.
        worse: The word for one below.
        detail: How it was obtained.
    """
    value, low, high = ratio
    word = better
    if value < 1:
        value, low, high, word = 1 / value, 1 / high, 1 / low, worse
    interval = None
    if low != high:
        interval = wording.span(wording.times(low), wording.times(high))
    clear = low == high or not low <= 1 <= high
    return Number(wording.times(value), word, interval, detail, clear)


def _score(data: ReportData) -> Number | None:
    """Return the share of the reference's score that is retained."""
    share = facts.retained(data)
    sides = facts.compared(data)
    if share is None or sides is None:
        return None
    measured, name = sides
    judged_share = _judged_share(data, measured, name)
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
    bounds = Number.bounds
    if judged_share is not None:
        share = judged_share
        bounds = "one-sided 95% bounds"
    interval = None
    if math.isfinite(share.low) and math.isfinite(share.high):
        interval = _percentages(share)
    clear = not share.low <= 1 <= share.high
    figure = wording.percent(share.value)
    return Number(figure, meaning, interval, detail, clear, bounds=bounds)


def _judged_share(data: ReportData, measured: Measurements, name: str) -> Interval | None:
    """Return the share that is retained as a budget has it; None if no budget is on it.

    The same number has the same interval everywhere on the page.
    """
    results = []
    if data.verdict is not None:
        results = data.verdict.budgets
    for result in results:
        is_share = result.metric == measured.main and result.form == "min_retained"
        if not is_share or result.cell is not None or result.place is not None:
            continue
        if result.against is None or measured.name_of(result.against) != name:
            continue
        value, low, high = result.value, result.low, result.high
        if value is not None and low is not None and high is not None:
            return Interval(value, low, high)
    return None


def _percentages(interval: Interval) -> str:
    return wording.span(wording.percent(interval.low), wording.percent(interval.high))


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
