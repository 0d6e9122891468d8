"""Judge one budget: compare the measured value and its interval with the budget's limit.

A budget passes if the whole interval is on the right side of the limit, fails if the whole
interval is on the wrong side, and is inconclusive otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.measure import cold_start, gate, statistics
from pipeline.measure.measurements import CANDIDATE, Latency, Measurements
from pipeline.measure.statistics import Bootstrap
from pipeline.terms.budget import Budget, misfit
from pipeline.terms.interval import Interval
from pipeline.terms.metrics import METRICS
from pipeline.terms.outcomes import Outcome
from pipeline.terms.vocabulary import LINEAR
from pipeline.terms.wording import beside, bounds, number, quantity, required, signed
from pipeline.verdict import lookup, power
from pipeline.verdict.verdict import BudgetResult


class Finding(NamedTuple):
    """The measured value of a budget. ``interval`` is None if nothing could be measured."""

    interval: Interval | None
    outcome: Outcome
    reason: str


def broken_answers(measurements: Measurements) -> BudgetResult | None:
    """Return a failed result if the candidate answers NaN or infinity, None otherwise."""
    try:
        lookup.answers(measurements, CANDIDATE)
    except lookup.MissingError as missing:
        return BudgetResult(
            metric="answers", form="max", limit=0, value=None, outcome="fail", reason=str(missing)
        )
    return None


def beaten(measurements: Measurements) -> BudgetResult | None:
    """Return whether the candidate beats the linear model; None if there is none, or it is broken.

    It fails if its main score is no better, whatever it keeps of a larger model's: the cheap model
    is the one to ship. If it is better, the interval says how sure that is.
    """
    if measurements.linear is None or broken_answers(measurements):
        return None
    main = measurements.main
    both = measurements.compare(main, measurements.table(CANDIDATE), measurements.linear_table())
    lost = _negated(both.difference90)
    change = [signed(value) for value in both.difference90]
    better = lost.value < 0
    reason = (
        f"{main} differs from the linear model's by {change[0]} points [{change[1]}, {change[2]}] "
        "(one-sided 95 % bounds)"
    )
    return BudgetResult(
        metric=main,
        form="max_drop",
        limit=0,
        against=LINEAR,
        **lost._asdict(),
        outcome="pass" if better else "fail",
        reason=reason if better else f"{reason}: a transformer does not pay here",
    )


def judge_one(budget: Budget, target: str | None, measurements: Measurements) -> BudgetResult:
    """Judge one budget on one target; None is the target of metrics that no target affects."""
    try:
        if reason := misfit(budget):
            raise lookup.MissingError(reason)
        judge = _EVALUATE[METRICS[budget.metric].kind]
        finding = judge(budget, target, measurements.on(target))
        finding = _unless_throttled(finding, budget, target, measurements)
    except lookup.MissingError as missing:
        finding = Finding(None, "fail", str(missing))
    shown = finding.interval
    if shown is not None and not all(map(math.isfinite, shown)):
        reason = f"{budget.metric} is not a finite number: {finding.reason}"
        shown, finding = None, Finding(None, "fail", reason)
    return BudgetResult(
        metric=budget.metric,
        form=budget.form,
        limit=budget.limit,
        against=budget.against,
        target=target,
        caches=budget.caches,
        level=budget.level,
        value=shown.value if shown else None,
        low=shown.low if shown else None,
        high=shown.high if shown else None,
        outcome=finding.outcome,
        reason=finding.reason,
    )


def _unless_throttled(
    finding: Finding, budget: Budget, target: str | None, measurements: Measurements
) -> Finding:
    """Mark a finding on timings inconclusive if its target was throttled."""
    metric = METRICS[budget.metric]
    if metric.kind == "cold_start":
        target = next(iter(measurements.latency), None)  # it is measured on the first target
    elif not metric.timed:
        return finding
    timed = measurements.latency.get(target or "")
    if timed is None or not timed.throttled:
        return finding
    reason = f"{finding.reason}; inconclusive because {timed.throttled}"
    return Finding(finding.interval, "inconclusive", reason)


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
    reason = "; inconclusive because the interval includes the limit"
    return reason + lacking if outcome == "inconclusive" else ""


def _limit(text: str, *, least: bool) -> str:
    return f"at least {text} is required" if least else f"at most {text} is allowed"


def _absolute(budget: Budget, interval: Interval, where: str) -> Finding:
    """Judge ``min`` and ``max``."""
    unit = METRICS[budget.metric].unit
    least = budget.form == "min"
    outcome = _at_least(interval, budget.limit) if least else _at_most(interval, budget.limit)
    limit, shown = _limit(required(budget.limit, unit), least=least), budget.limit
    text = f"{budget.metric} is {bounds(interval, unit, shown)}{where}; {limit}{_at_limit(outcome)}"
    return Finding(interval, outcome, text)


# Scores of the eval rows


def _score(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    """Judge a score of the task, such as accuracy, or an error."""
    task, truth, groups = measurements.scored_by, measurements.truth, measurements.groups
    if budget.metric not in task.scorer.formulas(truth):
        known = ", ".join(task.scorer.formulas(truth))
        raise lookup.MissingError(f"{task.name} has no {budget.metric}; its scores are {known}")
    ours = lookup.answers(measurements, CANDIDATE)
    if budget.against is None:
        return _absolute(budget, measurements.score_of(budget.metric, ours), "")
    theirs = lookup.answers(measurements, lookup.against(budget, measurements))
    both = measurements.compare(budget.metric, ours, theirs)
    right = [task.scorer.correct(side, truth) for side in (ours, theirs)]
    if task.scorer.counted and power.counts_rows(budget.metric) and not groups:
        lacking = power.lacking(budget, *right)
    else:
        formula = task.scorer.formulas(truth)[budget.metric]
        base = formula(theirs, truth)(np.ones((1, len(right[1]))))
        drawn, name = len(right[1]), task.scorer.block_name(truth)
        if groups:
            drawn, name = len(set(groups)), "group"
        lacking = power.lacking_blocks(budget, both, float(base[0]), drawn, name)
    return (
        _drop(budget, both, lacking) if budget.form == "max_drop" else _kept(budget, both, lacking)
    )


def _drop(budget: Budget, both: Bootstrap, lacking: str) -> Finding:
    """Judge ``max_drop``; the finding holds the drop, so a positive value is worse."""
    outcome: Outcome = statistics.non_inferiority(both.difference90, budget.limit)
    drop = _negated(both.difference90)
    change = [beside(signed, value, -budget.limit) for value in both.difference90]
    text = (
        f"{budget.metric} differs from {budget.against}'s by {change[0]} points "
        f"[{change[1]}, {change[2]}] (one-sided 95 % bounds); "
        f"the non-inferiority margin is {required(budget.limit, 'points')}"
    )
    return Finding(drop, outcome, text + _at_limit(outcome, lacking))


def _kept(budget: Budget, both: Bootstrap, lacking: str) -> Finding:
    """Judge ``min_retained`` and ``max_regression`` of a score."""
    sides = " (one-sided 95 % bounds)"
    if math.isfinite(both.difference90.value) and not all(map(math.isfinite, both.ratio90)):
        near = f"{budget.metric} of {budget.against} is too near 0, or below, for a share of it"
        return Finding(None, "inconclusive", near + lacking)
    if budget.form == "max_regression":
        lost = Interval(*(1 - both.ratio90[at] for at in (0, 2, 1)))
        return _regression(budget, lost, sides, lacking)
    outcome = _at_least(both.ratio90, budget.limit)
    text = (
        f"{budget.metric} is {bounds(both.ratio90, '%', budget.limit)} of {budget.against}'s"
        f"{sides}; {_limit(required(budget.limit, '%'), least=True)}"
    )
    return Finding(both.ratio90, outcome, text + _at_limit(outcome, lacking))


def _worse(budget: Budget, ratio: Interval, where: str) -> Finding:
    """Judge ``max_regression`` by a ratio to the reference; a lower ratio is better."""
    return _regression(budget, Interval(*(value - 1 for value in ratio)), where)


def _regression(budget: Budget, interval: Interval, note: str, lacking: str = "") -> Finding:
    outcome = _at_most(interval, budget.limit)
    shown, word, limit = interval, "worse", budget.limit
    if interval.value < 0:
        shown, word, limit = _negated(interval), "better", -limit
    text = (
        f"{budget.metric} is {bounds(shown, '%', limit)} {word} than {budget.against}'s"
        f"{note}; a regression of at most {required(budget.limit, '%')} is allowed"
    )
    return Finding(interval, outcome, text + _at_limit(outcome, lacking))


def _negated(interval: Interval) -> Interval:
    """Return minus an interval; of 0 it is 0, not the -0 that reports would show."""
    return Interval(*(0 - interval[at] for at in (0, 2, 1)))


def _agreement(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    if measurements.unlabelled and budget.against:
        return _score(budget, target, measurements)
    if measurements.unlabelled:
        ours = lookup.answers(measurements, CANDIDATE)
        own = measurements.score_of(budget.metric, ours)
        return _absolute(budget, own, " with the recipe's model")
    name = lookup.first_reference(budget, measurements)
    ours, theirs = lookup.answers(measurements, CANDIDATE), lookup.answers(measurements, name)
    return _absolute(budget, measurements.agreement(ours, theirs), f" with {name}")


def _divergence(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    name, task = lookup.first_reference(budget, measurements), measurements.scored_by
    if not task.scorer.probable:
        raise lookup.MissingError(f"the answers of {task.name} are no probabilities")
    ours, theirs = lookup.answers(measurements, CANDIDATE), lookup.answers(measurements, name)
    return _absolute(budget, measurements.divergence(ours, theirs), f" nats from {name}")


# Timings


def _latency(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    """Judge a latency percentile, alone or against that of a reference."""
    timed = lookup.timed(measurements, target)
    name, _, number_ = budget.metric.rpartition("_p")
    percentile, whole, cold = int(number_), name == "end_to_end", budget.caches == "cold"
    place = f"{target} with cold caches" if cold else f"{target}"
    ours = lookup.samples(timed, CANDIDATE, target, whole, cold)
    if lacking := _lacking(ours, percentile):
        return lacking
    if budget.against is None:
        own = timed.percentile(CANDIDATE, percentile, whole=whole, cold=cold)
        return _absolute(budget, own, f" on {place}")
    theirs = lookup.samples(timed, lookup.against(budget, measurements), target, whole, cold)
    if budget.form == "min_speedup":
        return _faster(budget, ours, theirs, percentile, f"{budget.against} on {place}", timed)
    compared = gate.compare(
        ours,
        theirs,
        budget.limit,
        percentile=percentile,
        looks=timed.looks,
        block=1 if cold else timed.block,
    )
    finding = _worse(budget, compared.ratio, f" on {place}")
    if finding.outcome == "fail" and compared.p is not None and compared.change != "regression":
        weak = (
            "inconclusive because Wilcoxon's signed-rank test is not significant "
            f"(p = {compared.p:.3f}, level {gate.CHANCE})"
        )
        return Finding(finding.interval, "inconclusive", f"{finding.reason}; {weak}")
    return finding


def _speedup(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    """Judge the ratio of medians to ``against``, by default the first reference."""
    timed = lookup.timed(measurements, target)
    name = budget.against or lookup.first_reference(budget, measurements)
    model = lookup.against(budget, measurements) if budget.against else name
    ours, theirs = lookup.samples(timed, CANDIDATE, target), lookup.samples(timed, model, target)
    return _lacking(ours, 50) or _faster(budget, ours, theirs, 50, f"{name} on {target}", timed)


def _faster(
    budget: Budget,
    ours: Sequence[Sequence[float]],
    theirs: Sequence[Sequence[float]],
    percentile: int,
    what: str,
    timed: Latency,
) -> Finding:
    ratio = statistics.percentile_ratio(theirs, ours, percentile, looks=timed.looks)
    most = budget.form == "max"
    outcome = _at_most(ratio, budget.limit) if most else _at_least(ratio, budget.limit)
    limit = _limit(required(budget.limit, "×"), least=not most)
    at = "" if percentile == 50 else f" at p{percentile}"
    text = f"{bounds(ratio, '×', budget.limit)} faster than {what}{at}; {limit}{_at_limit(outcome)}"
    return Finding(ratio, outcome, text)


def _lacking(samples: Sequence[Sequence[float]], percentile: int) -> Finding | None:
    """Return an inconclusive finding if the percentile needs more samples, None otherwise."""
    count = sum(map(len, samples))
    if statistics.carries(percentile, count):
        return None
    needed = statistics.samples_needed(percentile)
    reason = f"{count} calls are too few to estimate p{percentile}; time {needed} or more"
    return Finding(None, "inconclusive", reason)


# Counts and cold start


def _count(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    """Judge size, memory and parameters, which have no interval."""
    unit = METRICS[budget.metric].unit
    ours = lookup.amount(measurements, CANDIDATE, budget.metric)
    if budget.against is None:
        return _absolute(budget, Interval(ours, ours, ours), "")
    theirs = lookup.amount(measurements, lookup.against(budget, measurements), budget.metric)
    shown = f"{quantity(ours, unit)} vs. {quantity(theirs, unit)}"
    if budget.form == "min_shrink":
        ratio = theirs / ours if ours else math.inf
        less = METRICS[budget.metric].less
        limit = _limit(required(budget.limit, "×"), least=True)
        text = f"{beside(number, ratio, budget.limit)}× {less} than {budget.against} ({shown}); "
        exact = Interval(ratio, ratio, ratio)
        return Finding(exact, _at_least(exact, budget.limit), text + limit)
    ratio = ours / theirs if theirs else math.inf
    return _worse(budget, Interval(ratio, ratio, ratio), f" ({shown})")


def _cold_start(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    """Judge the median cold start, or the median of its per-round ratios to a reference."""
    ours = lookup.starts(measurements, CANDIDATE)
    if not statistics.carries(50, len(ours)):
        reason = (
            f"{len(ours)} cold starts are too few for a confidence interval of the median; "
            "measure 6 or more"
        )
        return Finding(None, "inconclusive", reason)
    if budget.against is None:
        return _absolute(budget, cold_start.median(ours), "")
    theirs = lookup.starts(measurements, lookup.against(budget, measurements))
    if len(theirs) != len(ours):
        raise lookup.MissingError(
            f"{budget.against} and the candidate have different numbers of cold starts, "
            "so they cannot be paired"
        )
    if budget.form == "max_regression":
        return _worse(budget, cold_start.ratio(ours, theirs), "")
    ratio = cold_start.ratio(theirs, ours)
    outcome = _at_least(ratio, budget.limit)
    limit = _limit(required(budget.limit, "×"), least=True) + _at_limit(outcome)
    shown = bounds(ratio, "×", budget.limit)
    text = f"{budget.metric} is {shown} faster than {budget.against}'s; {limit}"
    return Finding(ratio, outcome, text)


_EVALUATE: dict[str, Callable[[Budget, str | None, Measurements], Finding]] = {
    "score": _score,
    "error": _score,
    "agreement": _agreement,
    "divergence": _divergence,
    "latency": _latency,
    "speedup": _speedup,
    "count": _count,
    "cold_start": _cold_start,
}
