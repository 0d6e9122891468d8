"""Judge one budget: compare the measured value and its interval with the budget's limit.

A budget passes if the whole interval is on the right side of the limit, fails if the whole
interval is on the wrong side, and is inconclusive otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rarefy.pipeline.measure import stopping
from rarefy.pipeline.measure.latency import compare as gate
from rarefy.pipeline.measure.measurements import CANDIDATE, Latency, Measurements
from rarefy.pipeline.measure.memory import cold_start
from rarefy.pipeline.measure.rows_per_second import Throughput
from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.measure.statistics.intervals import Bootstrap
from rarefy.pipeline.tasks.shared.formulas import Floats
from rarefy.pipeline.terms.budget import Budget, misfit
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.metrics import DIFFERENCES, SHARE, known, unit
from rarefy.pipeline.terms.outcomes import Outcome
from rarefy.pipeline.terms.recipe_parts import LINEAR
from rarefy.pipeline.terms.wording import (
    beside,
    bounds,
    number,
    quantity,
    required,
    signed,
    signed_number,
)
from rarefy.pipeline.verdict import lookup, power
from rarefy.pipeline.verdict.verdict import BudgetResult

LOADED = 2.0
"""How many times as long calls take beside other programs, at most, on a core that they share."""


class Finding(NamedTuple):
    """The measured value of a budget. ``interval`` is None if nothing could be measured."""

    interval: Interval | None
    outcome: Outcome
    reason: str


def broken_answers(measurements: Measurements) -> BudgetResult | None:
    """Return a failed result if the candidate predicts NaN or infinity, None otherwise."""
    try:
        lookup.answers(measurements, CANDIDATE)
    except lookup.MissingError as missing:
        return BudgetResult(
            metric="answers", form="max", limit=0, value=None, outcome="fail", reason=str(missing)
        )
    return None


def judge_linear(measurements: Measurements) -> BudgetResult | None:
    """Return whether the candidate beats the linear model; None if there is none, or it is broken.

    It fails if its main score is surely worse, whatever it retains of a larger model's: the cheap
    model is the one to ship. If the interval contains no difference, it is inconclusive. It is not
    a budget of the recipe, and may be a warning only (``validate: {linear: warn}``).
    """
    if measurements.linear is None or broken_answers(measurements):
        return None
    level = measurements.linear.level
    main = measurements.main
    candidate, linear = measurements.table(CANDIDATE), measurements.linear_table()
    comparison = measurements.compare(main, candidate, linear)
    drop = _negated(comparison.difference90)
    value, low, high = map(signed, comparison.difference90)
    reason = (
        f"{main} differs from the linear model's by {value} points [{low}, {high}] "
        "(one-sided 95% bounds)"
    )
    difference = comparison.difference90
    outcome: Outcome = intervals.non_inferiority(difference, 0)
    if outcome == "fail":
        reason = f"{reason}: the linear model is better, so the bundle fails"
    elif outcome == "inconclusive":
        reason = f"{reason}: the linear model may be as good; more eval rows would tell"
    return BudgetResult(
        metric=main,
        form="max_drop",
        limit=0,
        against=LINEAR,
        level=level,
        **drop._asdict(),
        outcome=outcome,
        reason=reason,
    )


def judge_one(budget: Budget, target: str | None, measurements: Measurements) -> BudgetResult:
    """Judge one budget on one target; None is the target of metrics that no target affects."""
    finding = _find(budget, target, measurements.scored_with(budget.own))
    return result_of(budget, target, finding)


def result_of(budget: Budget, target: str | None, finding: Finding) -> BudgetResult:
    """Return what a budget's finding on a target is in the verdict."""
    value = low = high = None
    if finding.interval is not None:
        value, low, high = finding.interval
    return BudgetResult(
        metric=budget.metric,
        label=budget.label,
        slice=budget.slice,
        form=budget.form,
        limit=budget.limit,
        against=budget.against,
        target=target,
        caches=budget.caches,
        level=budget.level,
        code=budget.own.code if budget.own else None,
        value=value,
        low=low,
        high=high,
        outcome=finding.outcome,
        reason=finding.reason,
    )


def _find(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    """Return the finding of a budget; it fails if something is missing or not a finite number.

    A share that is none, because no row counts for it, is inconclusive.
    """
    reason = misfit(budget)
    if reason:
        return Finding(None, "fail", reason)
    judge = _JUDGES[known(budget.metric).kind]
    try:
        finding = judge(budget, target, measurements.on(target))
    except lookup.MissingError as missing:
        return Finding(None, "fail", str(missing))
    finding = _unless_disturbed(finding, budget, target, measurements)
    if finding.interval is None or all(map(math.isfinite, finding.interval)):
        return finding
    if known(budget.metric).ends == SHARE:
        return Finding(None, "inconclusive", f"{budget.metric} says nothing: no row counts for it")
    return Finding(None, "fail", f"{budget.metric} is not a finite number: {finding.reason}")


def throttling(measurements: Measurements, kind: str) -> dict[str, str]:
    """Return target -> how its speed changed while metrics of a kind were timed."""
    timed: Mapping[str, Latency | Throughput] = measurements.latency
    if kind == "throughput":
        timed = measurements.throughput
    return {name: times.throttled for name, times in timed.items() if times.throttled}


def _unless_disturbed(
    finding: Finding, budget: Budget, target: str | None, measurements: Measurements
) -> Finding:
    """Mark a finding on timings inconclusive if its target was throttled.

    So is a miss of a limit in ms on a busy machine, unless calls half as long would miss it too.
    """
    metric = known(budget.metric)
    if metric.kind == "cold_start":
        target = next(iter(measurements.latency), None)  # it is measured on the first target
    elif not metric.timed:
        return finding
    cause = throttling(measurements, metric.kind).get(target or "")
    timed = measurements.latency.get(target or "")
    if cause is None and timed and _may_be_load(finding, budget, timed):
        cause = f"the machine was busy ({timed.busy[0]}) and calls may have waited"
    if not cause:
        return finding
    reason = f"{finding.reason}; inconclusive because {cause}"
    return Finding(finding.interval, "inconclusive", reason)


def _may_be_load(finding: Finding, budget: Budget, timed: Latency) -> bool:
    """Return whether a limit in ms may be missed because of what else ran."""
    if 2 * timed.disturbed < timed.processes or not timed.busy:
        return False
    if finding.outcome != "fail" or finding.interval is None:
        return False
    if budget.form != "max" or known(budget.metric).unit != "ms":
        return False
    return finding.interval.low <= LOADED * budget.limit


def _at_least(interval: Interval, limit: float) -> Outcome:
    if interval.low >= limit:
        return "pass"
    return "fail" if interval.high < limit else "inconclusive"


def _at_most(interval: Interval, limit: float) -> Outcome:
    if interval.high <= limit:
        return "pass"
    return "fail" if interval.low > limit else "inconclusive"


def _at_limit(outcome: Outcome, lacking: str = "") -> str:
    """Return why an outcome is inconclusive, "" for others; ``lacking``: what data would help."""
    if outcome != "inconclusive":
        return ""
    return f"; inconclusive because the interval includes the limit{lacking}"


def _compare(
    interval: Interval, budget: Budget, unit: str, *, least: bool, lacking: str = ""
) -> tuple[Outcome, str, str]:
    """Compare a value with the limit; return the outcome, the value and the limit in words.

    Args:
        interval: The value.
        budget: It has the limit.
        unit: Of both.
        least: The value must be at least the limit, else at most.
        lacking: What data would help if neither is sure.
    """
    limit = required(budget.limit, unit)
    if least:
        outcome, text = _at_least(interval, budget.limit), f"at least {limit} is required"
    else:
        outcome, text = _at_most(interval, budget.limit), f"at most {limit} is allowed"
    return outcome, bounds(interval, unit, budget.limit), text + _at_limit(outcome, lacking)


def _absolute(budget: Budget, interval: Interval, where: str, lacking: str = "") -> Finding:
    """Judge ``min`` and ``max``."""
    unit = known(budget.metric).unit
    least = budget.form == "min"
    outcome, shown, limit = _compare(interval, budget, unit, least=least, lacking=lacking)
    return Finding(interval, outcome, f"{budget.metric} is {shown}{where}; {limit}")


# Scores of the eval rows


def _score(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    """Judge a score of the task, such as accuracy, or an error."""
    task, name = measurements.scored_by, budget.metric
    scorer, truth = task.scorer, measurements.truth
    if scorer.formula(name, truth) is None:
        names = ", ".join((*scorer.formulas(truth), *scorer.on_request))
        raise lookup.MissingError(f"{task.name} has no {name}; its scores are {names}")
    ours = lookup.answers(measurements, CANDIDATE)
    if budget.against is None:
        return of_score(budget, measurements.score_of(name, ours))
    reference = lookup.against(budget, measurements)
    theirs = lookup.answers(measurements, reference)
    comparison = measurements.compare(name, ours, theirs)
    lacking = _lacking_rows(budget, measurements, comparison, ours, theirs)
    return of_score(budget, comparison, lacking)


def of_score(budget: Budget, score: Interval | Bootstrap, lacking: str = "") -> Finding:
    """Judge a budget by a score alone, or by its comparison with the reference's.

    ``lacking``: how many rows are needed if there are too few, as the end of a sentence.
    """
    if isinstance(score, Interval):
        finding = _absolute(budget, score, "", lacking)
    elif budget.form in DIFFERENCES:
        finding = _drop(budget, score, lacking)
    else:
        finding = _retained(budget, score, lacking)
    return _unless_constant(finding, budget)


def _unless_constant(finding: Finding, budget: Budget) -> Finding:
    """Return a finding as it is, or inconclusive if a metric of one's own passes without a width.

    It has no known ends, so if it is the same on all rows nobody knows what one more may cost.
    """
    interval, outcome, reason = finding
    if not budget.own or outcome != "pass" or interval is None or interval.low < interval.high:
        return finding
    why = "inconclusive because no row shows what a failure costs"
    return Finding(interval, "inconclusive", f"{reason}; {why}")


def _lacking_rows(
    budget: Budget,
    measurements: Measurements,
    comparison: Bootstrap,
    ours: Floats,
    theirs: Floats,
) -> str:
    """Return how many rows a budget on a score needs if there are too few; see ``power``."""
    task, truth, groups = measurements.scored_by, measurements.truth, measurements.groups
    theirs_correct = task.scorer.correct(theirs, truth)
    if task.scorer.counted and power.counts_rows(budget.metric) and not groups:
        return power.lacking(budget, task.scorer.correct(ours, truth), theirs_correct)
    blocks = len(theirs_correct)
    reference = measurements.score_of(budget.metric, theirs).value
    block = task.scorer.block_name(truth)
    if groups:
        blocks, block = len(set(groups)), "group"
    return power.lacking_blocks(budget, comparison, reference, blocks, block)


def _drop(budget: Budget, comparison: Bootstrap, lacking: str) -> Finding:
    """Judge ``max_drop`` or ``max_increase``; the finding holds what is worse as positive."""
    difference = comparison.difference90
    gain, loss, end = _negated(difference), difference, budget.limit
    if budget.form == "max_drop":
        gain, loss, end = loss, gain, -end
    outcome: Outcome = intervals.non_inferiority(gain, budget.limit)
    of_limit = unit(budget.metric, budget.form)
    form, noun = signed_number, ""
    if of_limit == "points":
        form = signed
        noun = " points"
    value, low, high = [beside(form, each, end) for each in difference]
    margin = required(budget.limit, of_limit)
    reason = (
        f"{budget.metric} differs from {budget.against}'s by {value}{noun} "
        f"[{low}, {high}] (one-sided 95% bounds); the non-inferiority margin is {margin}"
    )
    return Finding(loss, outcome, reason + _at_limit(outcome, lacking))


def _retained(budget: Budget, comparison: Bootstrap, lacking: str) -> Finding:
    """Judge ``min_retained`` and ``max_regression`` of a score."""
    sides = " (one-sided 95% bounds)"
    ratio = comparison.ratio90
    has_ratio = all(map(math.isfinite, ratio))
    has_difference = math.isfinite(comparison.difference90.value)
    if has_difference and not has_ratio:
        near = f"{budget.metric} of {budget.against} is too close to 0, or below, for a ratio to it"
        return Finding(None, "inconclusive", near + lacking)
    if budget.form == "max_regression":
        lost = Interval(1 - ratio.value, 1 - ratio.high, 1 - ratio.low)
        return _regression(budget, lost, sides, lacking)
    outcome, shown, limit = _compare(ratio, budget, "%", least=True, lacking=lacking)
    reason = f"{budget.metric} is {shown} of {budget.against}'s{sides}; {limit}"
    return Finding(ratio, outcome, reason)


def _worse(budget: Budget, ratio: Interval, where: str) -> Finding:
    """Judge ``max_regression`` by a ratio to the reference; a lower ratio is better."""
    loss = Interval(ratio.value - 1, ratio.low - 1, ratio.high - 1)
    return _regression(budget, loss, where)


def _regression(budget: Budget, interval: Interval, note: str, lacking: str = "") -> Finding:
    outcome = _at_most(interval, budget.limit)
    limit = required(budget.limit, "%")
    word = "worse"
    shown = bounds(interval, "%", budget.limit)
    if interval.value < 0:
        word = "better"
        shown = bounds(_negated(interval), "%", -budget.limit)
    reason = (
        f"{budget.metric} is {shown} {word} than {budget.against}'s"
        f"{note}; a regression of at most {limit} is allowed"
    )
    return Finding(interval, outcome, reason + _at_limit(outcome, lacking))


def _negated(interval: Interval) -> Interval:
    """Return minus an interval; of 0 it is 0, not the -0 that reports would show."""
    return Interval(0 - interval.value, 0 - interval.high, 0 - interval.low)


def _agreement(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    if measurements.unlabelled and budget.against:
        return _score(budget, target, measurements)
    if measurements.unlabelled:
        ours = lookup.answers(measurements, CANDIDATE)
        agreement = measurements.score_of(budget.metric, ours)
        return _absolute(budget, agreement, " with the recipe's model")
    name = lookup.first_reference(budget, measurements)
    ours = lookup.answers(measurements, CANDIDATE)
    theirs = lookup.answers(measurements, name)
    agreement = measurements.agreement(ours, theirs)
    return _absolute(budget, agreement, f" with {name}")


def _divergence(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    name, task = lookup.first_reference(budget, measurements), measurements.scored_by
    if not task.scorer.probable:
        raise lookup.MissingError(f"the predictions of {task.name} are not probabilities")
    ours = lookup.answers(measurements, CANDIDATE)
    theirs = lookup.answers(measurements, name)
    divergence = measurements.divergence(ours, theirs)
    return _absolute(budget, divergence, f" nats from {name}")


# Timings


def _latency(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    """Judge a latency percentile, alone or against that of a reference."""
    timed = lookup.timed(measurements, target)
    name, _, percent = budget.metric.rpartition("_p")
    percentile = int(percent)
    whole, cold = name == "end_to_end", budget.caches == "cold"
    place = f"{target} with cold caches" if cold else f"{target}"
    ours = lookup.samples(timed, CANDIDATE, target, whole, cold)
    shortage = _too_few(ours, percentile)
    if shortage:
        return shortage
    if budget.against is None:
        interval = timed.percentile(CANDIDATE, percentile, whole=whole, cold=cold, population=True)
        finding = _absolute(budget, interval, f" on {place}")
        return _of_processes(finding, budget, timed, None)
    reference = lookup.against(budget, measurements)
    theirs = lookup.samples(timed, reference, target, whole, cold)
    if budget.form == "min_speedup":
        what = f"{budget.against} on {place}"
        finding = _faster(budget, ours, theirs, percentile, what, timed)
        return _of_processes(finding, budget, timed, reference)
    block = 1 if cold else timed.block
    comparison = gate.compare(
        ours, theirs, budget.limit, percentile=percentile, looks=timed.looks, block=block
    )
    finding = _worse(budget, comparison.ratio, f" on {place}")
    finding = _of_processes(finding, budget, timed, reference)
    significant = comparison.p is None or comparison.change == "regression"
    if finding.outcome != "fail" or significant:
        return finding
    weak = (
        "inconclusive because Wilcoxon's signed-rank test is not significant "
        f"(p = {comparison.p:.3f}, level {gate.CHANCE})"
    )
    return Finding(finding.interval, "inconclusive", f"{finding.reason}; {weak}")


def _speedup(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    """Judge the ratio of medians to ``against``, by default the first reference."""
    timed = lookup.timed(measurements, target)
    if budget.against:
        name, model = budget.against, lookup.against(budget, measurements)
    else:
        name = model = lookup.first_reference(budget, measurements)
    ours = lookup.samples(timed, CANDIDATE, target)
    theirs = lookup.samples(timed, model, target)
    shortage = _too_few(ours, 50)
    if shortage:
        return shortage
    what = f"{name} on {target}"
    finding = _faster(budget, ours, theirs, 50, what, timed)
    return _of_processes(finding, budget, timed, model)


def _faster(
    budget: Budget,
    ours: Sequence[Sequence[float]],
    theirs: Sequence[Sequence[float]],
    percentile: int,
    what: str,
    timed: Latency,
) -> Finding:
    ratio = intervals.percentile_ratio(theirs, ours, percentile, looks=timed.looks)
    outcome, shown, limit = _compare(ratio, budget, "×", least=budget.form != "max")
    at = "" if percentile == 50 else f" at p{percentile}"
    return Finding(ratio, outcome, f"{shown} faster than {what}{at}; {limit}")


def _of_processes(
    finding: Finding, budget: Budget, timed: Latency, reference: str | None
) -> Finding:
    """Return a finding on times as it is, or inconclusive if it passes on too few processes.

    A process that was notably slow, relative to ``reference`` or another model, is said.
    """
    interval, outcome, reason = finding
    cold = budget.caches == "cold"
    count = len(timed.calls(CANDIDATE, cold=cold))
    slowest = timed.slowest(CANDIDATE, reference, cold=cold)
    notable = slowest >= stopping.NOTABLE
    if notable:
        reason += f"; the slowest of {count} processes took {slowest:.2f} times as long as most"
    room = _room(budget, interval)
    spared = stopping.spared(count)
    slow = timed.slowest(CANDIDATE, reference, cold=cold, left_out=spared)
    if outcome != "pass" or stopping.is_enough(count, room, slow):
        return Finding(interval, outcome, reason)
    reason += "; inconclusive because "
    if slow >= stopping.NOTABLE and room < slow:
        reason += "the slowest does not meet the limit, and how many are slow is not sure"
    else:
        reason += (
            f"{count} processes may have missed slow ones: less than {stopping.ROOM - 1:.0%} from "
            f"the limit, {stopping.FEWEST} are needed"
        )
    return Finding(interval, "inconclusive", reason)


def _room(budget: Budget, interval: Interval | None) -> float:
    """Return how many times as long calls would take at the limit as at the interval's end."""
    form, limit = budget.form, budget.limit
    is_factor = known(budget.metric).kind == "speedup"
    if interval is None:
        return math.inf
    if form == "max_regression":
        return (1 + limit) / (1 + interval.high)
    if form == "min_speedup" or (form == "min" and is_factor):
        return interval.low / limit
    if form == "max" and not is_factor:
        return limit / interval.high
    return math.inf


def _too_few(samples: Sequence[Sequence[float]], percentile: int) -> Finding | None:
    """Return an inconclusive finding if the percentile needs more samples, None otherwise."""
    count = sum(map(len, samples))
    if intervals.carries(percentile, count):
        return None
    needed = intervals.samples_needed(percentile)
    reason = f"{count} calls are too few to estimate p{percentile}; time {needed} or more"
    return Finding(None, "inconclusive", reason)


def _throughput(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    """Judge rows a second, alone or as a ratio to those of a reference."""
    timed = lookup.counted(measurements, target, CANDIDATE)
    setting = timed.setting(CANDIDATE)
    where = f" on {target} ({setting})"
    if budget.against is None:
        return _absolute(budget, timed.rate(CANDIDATE), where)
    reference = lookup.against(budget, measurements)
    lookup.counted(measurements, target, reference)
    ratio = timed.ratio(CANDIDATE, reference)
    if budget.form == "max_regression":
        lost = Interval(1 - ratio.value, 1 - ratio.high, 1 - ratio.low)
        return _regression(budget, lost, where)
    outcome, shown, limit = _compare(ratio, budget, "×", least=True)
    reason = f"{shown} the rows a second of {budget.against}{where}; {limit}"
    return Finding(ratio, outcome, reason)


# Counts and cold start


def _count(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    """Judge size, memory and parameters, which have no interval."""
    metric = known(budget.metric)
    ours = lookup.amount(measurements, CANDIDATE, budget.metric)
    if budget.against is None:
        return _absolute(budget, _exact(ours), "")
    reference = lookup.against(budget, measurements)
    theirs = lookup.amount(measurements, reference, budget.metric)
    our_amount, their_amount = quantity(ours, metric.unit), quantity(theirs, metric.unit)
    both = f"{our_amount} vs. {their_amount}"
    if budget.form == "min_shrink":
        return _shrink(budget, ours, theirs, both)
    ratio = ours / theirs if theirs else math.inf
    return _worse(budget, _exact(ratio), f" ({both})")


def _shrink(budget: Budget, ours: float, theirs: float, both: str) -> Finding:
    """Judge ``min_shrink``; ``both``: the two amounts in words."""
    ratio = theirs / ours if ours else math.inf
    shown, less = beside(number, ratio, budget.limit), known(budget.metric).less
    limit = required(budget.limit, "×")
    reason = f"{shown}× {less} than {budget.against} ({both}); at least {limit} is required"
    exact = _exact(ratio)
    return Finding(exact, _at_least(exact, budget.limit), reason)


def _exact(value: float) -> Interval:
    return Interval(value, value, value)


def _cold_start(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    """Judge the median cold start, or the median of its per-round ratios to a reference."""
    ours = lookup.starts(measurements, CANDIDATE)
    if not intervals.carries(50, len(ours)):
        reason = (
            f"{len(ours)} cold starts are too few for a confidence interval of the median; "
            "measure 6 or more"
        )
        return Finding(None, "inconclusive", reason)
    if budget.against is None:
        return _absolute(budget, cold_start.median(ours), "")
    reference = lookup.against(budget, measurements)
    theirs = lookup.starts(measurements, reference)
    if len(theirs) != len(ours):
        raise lookup.MissingError(
            f"{budget.against} and the candidate have different numbers of cold starts, "
            "so they cannot be paired"
        )
    if budget.form == "max_regression":
        return _worse(budget, cold_start.ratio(ours, theirs), "")
    ratio = cold_start.ratio(theirs, ours)
    outcome, shown, limit = _compare(ratio, budget, "×", least=True)
    reason = f"{budget.metric} is {shown} faster than {budget.against}'s; {limit}"
    return Finding(ratio, outcome, reason)


_JUDGES: dict[str, Callable[[Budget, str | None, Measurements], Finding]] = {
    "score": _score,
    "error": _score,
    "agreement": _agreement,
    "divergence": _divergence,
    "latency": _latency,
    "speedup": _speedup,
    "throughput": _throughput,
    "count": _count,
    "cold_start": _cold_start,
}
