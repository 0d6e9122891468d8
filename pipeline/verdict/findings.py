"""One budget against the measurements: what it asks for, what was found, how sure that is.

A bound is kept where the whole interval lies on its right side, missed where the whole interval
lies on its wrong side, and undecided between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.measure import cold_start, gate, scores, statistics
from pipeline.measure.measurements import CANDIDATE, Latency, Measurements, ModelMeasurement
from pipeline.measure.statistics import Bootstrap
from pipeline.stage import formulas
from pipeline.stage.formulas import Floats
from pipeline.terms.budget import Budget
from pipeline.terms.interval import Interval
from pipeline.terms.metrics import METRICS
from pipeline.terms.outcomes import Outcome
from pipeline.terms.sense import misfit
from pipeline.terms.wording import bounds, number, quantity, signed
from pipeline.verdict import power
from pipeline.verdict.verdict import BudgetResult


class Finding(NamedTuple):
    """What was measured for a budget. ``interval`` is None where nothing could be."""

    interval: Interval | None
    outcome: Outcome
    reason: str


class _MissingError(Exception):
    """Something that the budget asks for was not measured; the message is the reason."""


def broken_answers(measurements: Measurements) -> BudgetResult | None:
    """Return the failure of a candidate that answers NaN or infinity, None where it does not."""
    try:
        _probabilities(measurements, CANDIDATE)
    except _MissingError as missing:
        return BudgetResult(
            metric="answers", form="max", limit=0, value=None, outcome="fail", reason=str(missing)
        )
    return None


def judge_one(budget: Budget, target: str | None, measurements: Measurements) -> BudgetResult:
    """Evaluate one budget on one target; a target of None is for what no target changes."""
    try:
        if reason := misfit(budget):
            raise _MissingError(reason)
        judge = _EVALUATE[METRICS[budget.metric].kind]
        finding = judge(budget, target, measurements.on(target))
        finding = _unless_throttled(finding, budget, target, measurements)
    except _MissingError as missing:
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
    """Take the outcome from a finding on times that a throttled target gave: they carry none."""
    metric = METRICS[budget.metric]
    if metric.kind == "cold_start":
        target = next(iter(measurements.latency), None)  # it is measured on the first
    elif not metric.timed:
        return finding
    timed = measurements.latency.get(target or "")
    if timed is None or not timed.throttled:
        return finding
    reason = f"{finding.reason}; but {timed.throttled}: undecided"
    return Finding(finding.interval, "inconclusive", reason)


def _at_least(interval: Interval, limit: float) -> Outcome:
    if interval.low >= limit:
        return "pass"
    return "fail" if interval.high < limit else "inconclusive"


def _at_most(interval: Interval, limit: float) -> Outcome:
    if interval.high <= limit:
        return "pass"
    return "fail" if interval.low > limit else "inconclusive"


def _undecided(outcome: Outcome, lacking: str = "") -> str:
    """Say that nothing is decided; ``lacking``: what evidence would be needed."""
    said = "; the interval holds the limit, so it is undecided"
    return said + lacking if outcome == "inconclusive" else ""


def _absolute(budget: Budget, interval: Interval, where: str) -> Finding:
    """Judge ``min`` and ``max``."""
    unit = METRICS[budget.metric].unit
    least = budget.form == "min"
    outcome = _at_least(interval, budget.limit) if least else _at_most(interval, budget.limit)
    asked = f"{'at least' if least else 'at most'} {quantity(budget.limit, unit)} was asked"
    text = f"{budget.metric} is {bounds(interval, unit)}{where}; {asked}{_undecided(outcome)}"
    return Finding(interval, outcome, text)


# What the rows tell


def _score(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    """Judge accuracy, macro F1 and calibration error."""
    truth = np.asarray(measurements.truth)
    ours = _probabilities(measurements, CANDIDATE)
    if budget.against is None:
        return _absolute(budget, scores.alone(budget.metric, ours, truth), "")
    theirs = _probabilities(measurements, _against(budget, measurements))
    both = scores.compare(budget.metric, ours, theirs, truth)
    lacking = power.lacking(budget, *(formulas.answers(side) == truth for side in (ours, theirs)))
    return (
        _drop(budget, both, lacking) if budget.form == "max_drop" else _kept(budget, both, lacking)
    )


def _drop(budget: Budget, both: Bootstrap, lacking: str) -> Finding:
    """Judge ``max_drop``: the finding is the drop, so positive is worse."""
    outcome: Outcome = statistics.non_inferiority(both.difference90, budget.limit)
    drop = Interval(*(-both.difference90[at] for at in (0, 2, 1)))
    change = [signed(value) for value in both.difference90]
    text = (
        f"{budget.metric} changes by {change[0]} points [{change[1]}, {change[2]}] against "
        f"{budget.against}'s (one-sided 95 % bounds); "
        f"a drop of at most {number(budget.limit * 100)} was asked"
    )
    return Finding(drop, outcome, text + _undecided(outcome, lacking))


def _kept(budget: Budget, both: Bootstrap, lacking: str) -> Finding:
    """Judge ``min_retained`` and ``max_regression`` of a score."""
    sides = " (one-sided 95 % bounds)"
    if budget.form == "max_regression":
        lost = Interval(*(1 - both.ratio90[at] for at in (0, 2, 1)))
        return _regression(budget, lost, sides, lacking)
    outcome = _at_least(both.ratio90, budget.limit)
    text = (
        f"{budget.metric} is {bounds(both.ratio90, '%')} of {budget.against}'s{sides}; "
        f"at least {quantity(budget.limit, '%')} was asked"
    )
    return Finding(both.ratio90, outcome, text + _undecided(outcome, lacking))


def _worse(budget: Budget, ratio: Interval, where: str) -> Finding:
    """Judge ``max_regression`` by a ratio to the reference of which less is better."""
    return _regression(budget, Interval(*(value - 1 for value in ratio)), where)


def _regression(budget: Budget, interval: Interval, note: str, lacking: str = "") -> Finding:
    outcome = _at_most(interval, budget.limit)
    text = (
        f"{budget.metric} is {bounds(interval, '%')} worse than {budget.against}'s{note}; "
        f"at most {quantity(budget.limit, '%')} was asked"
    )
    return Finding(interval, outcome, text + _undecided(outcome, lacking))


def _agreement(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    name = _first_reference(budget, measurements)
    ours, theirs = _probabilities(measurements, CANDIDATE), _probabilities(measurements, name)
    return _absolute(budget, scores.agreement(ours, theirs), f" with {name}")


# What the clock tells


def _latency(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    """Judge a percentile of the latency, alone or against a reference's."""
    timed = _timed(measurements, target)
    name, _, number_ = budget.metric.rpartition("_p")
    percentile, whole = int(number_), name == "end_to_end"
    ours = _samples(timed, CANDIDATE, target, whole)
    if lacking := _lacking(ours, percentile):
        return lacking
    if budget.against is None:
        return _absolute(
            budget, timed.percentile(CANDIDATE, percentile, whole=whole), f" on {target}"
        )
    theirs = _samples(timed, _against(budget, measurements), target, whole)
    if budget.form == "min_speedup":
        return _faster(budget, ours, theirs, percentile, f"{budget.against} on {target}", timed)
    compared = gate.compare(ours, theirs, budget.limit, percentile=percentile, looks=timed.looks)
    finding = _worse(budget, compared.ratio, f" on {target}")
    if finding.outcome == "fail" and compared.p is not None and compared.change != "regression":
        chance = f"Wilcoxon's p = {compared.p:.3f} leaves chance open, so it is undecided"
        return Finding(finding.interval, "inconclusive", f"{finding.reason}; {chance}")
    return finding


def _speedup(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    """Judge the ratio of medians; without ``against`` the first reference is meant."""
    timed = _timed(measurements, target)
    name = budget.against or _first_reference(budget, measurements)
    model = _against(budget, measurements) if budget.against else name
    ours, theirs = _samples(timed, CANDIDATE, target), _samples(timed, model, target)
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
    asked = f"{'at most ' if most else ''}{number(budget.limit)}× was asked"
    at = "" if percentile == 50 else f" at p{percentile}"
    text = f"{bounds(ratio, '×')} faster than {what}{at}; {asked}{_undecided(outcome)}"
    return Finding(ratio, outcome, text)


def _lacking(samples: Sequence[Sequence[float]], percentile: int) -> Finding | None:
    """Return why the samples cannot carry the percentile, None where they can."""
    count = sum(map(len, samples))
    if statistics.carries(percentile, count):
        return None
    return Finding(
        None, "inconclusive", f"{count} calls cannot carry a p{percentile}; time more rows"
    )


# What is counted


def _count(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    """Judge size, memory and parameters, which are exact numbers."""
    unit = METRICS[budget.metric].unit
    ours = _amount(measurements, CANDIDATE, budget.metric)
    if budget.against is None:
        return _absolute(budget, Interval(ours, ours, ours), "")
    theirs = _amount(measurements, _against(budget, measurements), budget.metric)
    shown = f"{quantity(ours, unit)} against {budget.against}'s {quantity(theirs, unit)}"
    if budget.form == "min_shrink":
        ratio = theirs / ours if ours else math.inf
        less = METRICS[budget.metric].less
        text = f"{number(ratio)}× {less} ({shown}); {number(budget.limit)}× was asked"
        exact = Interval(ratio, ratio, ratio)
        return Finding(exact, _at_least(exact, budget.limit), text)
    ratio = ours / theirs if theirs else math.inf
    return _worse(budget, Interval(ratio, ratio, ratio), f" ({shown})")


def _cold_start(budget: Budget, target: str | None, measurements: Measurements) -> Finding:
    """Judge the median of the cold starts, or of the rounds' ratios to a reference's."""
    ours = _starts(measurements, CANDIDATE)
    if not statistics.carries(50, len(ours)):
        reason = f"{len(ours)} cold starts carry no interval of a median; start 6 times or more"
        return Finding(None, "inconclusive", reason)
    if budget.against is None:
        return _absolute(budget, cold_start.median(ours), "")
    theirs = _starts(measurements, _against(budget, measurements))
    if len(theirs) != len(ours):
        raise _MissingError(f"{budget.against} was not started in the candidate's rounds")
    if budget.form == "max_regression":
        return _worse(budget, cold_start.ratio(ours, theirs), "")
    ratio = cold_start.ratio(theirs, ours)
    outcome = _at_least(ratio, budget.limit)
    asked = f"{number(budget.limit)}× was asked{_undecided(outcome)}"
    text = f"{bounds(ratio, '×')} faster to its first answer than {budget.against}; {asked}"
    return Finding(ratio, outcome, text)


_EVALUATE: dict[str, Callable[[Budget, str | None, Measurements], Finding]] = {
    "score": _score,
    "error": _score,
    "agreement": _agreement,
    "latency": _latency,
    "speedup": _speedup,
    "count": _count,
    "cold_start": _cold_start,
}


# What was measured at all


def _against(budget: Budget, measurements: Measurements) -> str:
    name = measurements.name_of(budget.against or "")
    if name is None or name == CANDIDATE:
        known = ", ".join([*measurements.references, *measurements.aliases]) or "none"
        raise _MissingError(
            f"{budget.against!r} was not measured as a reference; measured: {known}"
        )
    return name


def _first_reference(budget: Budget, measurements: Measurements) -> str:
    if not measurements.references:
        raise _MissingError(f"{budget.metric} needs a reference, and none was measured")
    return measurements.references[0]


def _model(measurements: Measurements, name: str) -> ModelMeasurement:
    if name not in measurements.models:
        raise _MissingError(f"the {name} was not measured")
    return measurements.models[name]


def _amount(measurements: Measurements, name: str, metric: str) -> float:
    amount = getattr(_model(measurements, name), metric)
    if amount is None:
        raise _MissingError(f"the {metric} of {name} was not measured")
    return float(amount)


def _starts(measurements: Measurements, name: str) -> list[float]:
    starts = _model(measurements, name).cold_start
    if not starts:
        raise _MissingError(f"the cold start of {name} was not measured")
    if not all(map(math.isfinite, starts)):
        raise _MissingError(f"{name} has a cold start that is not a number")
    return starts


def _probabilities(measurements: Measurements, name: str) -> Floats:
    """Return a model's answers. Raises _MissingError where one is missing or not a number."""
    answers = np.asarray(_model(measurements, name).probabilities, dtype=float)
    rows = len(measurements.truth)
    if answers.ndim != 2 or len(answers) != rows or not rows:
        raise _MissingError(f"{name} has answers for {len(answers)} of {rows} rows")
    broken = int(np.sum(~np.isfinite(answers).all(axis=1)))
    if broken:
        raise _MissingError(f"{name} answered NaN or infinity on {broken} of {rows} rows")
    return answers


def _timed(measurements: Measurements, target: str | None) -> Latency:
    if target is None or target not in measurements.latency:
        known = ", ".join(measurements.latency) or "none"
        raise _MissingError(f"target {target!r} was not timed; timed: {known}")
    return measurements.latency[target]


def _samples(
    timed: Latency, name: str, target: str | None, whole: bool = False
) -> list[list[float]]:
    """Return a model's calls in ms, with ``whole`` from text to logits. Raises _MissingError."""
    samples = timed.samples.get(name)
    if not samples or not all(samples):
        raise _MissingError(f"{name} was not timed on {target}")
    if whole:
        samples = timed.end_to_end(name)
    if not all(math.isfinite(ms) for process in samples for ms in process):
        raise _MissingError(f"{name} has a time that is not a number on {target}")
    return samples
