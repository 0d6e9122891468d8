"""The numbers of a run for other tools, each with its model, target and interval."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.measure.measurements import CANDIDATE, Latency, Measurements
from pipeline.report import facts
from pipeline.terms import metrics
from pipeline.terms.interval import Interval
from pipeline.verdict.record import ReportData


@dataclass(frozen=True)
class Measured:
    """One number with its 95 % bounds if it has any: a share, ms, bytes, a ratio or a count.

    ``unit`` is that of ``METRICS``: ``%`` for a share between 0 and 1, ``ms``, ``B``, ``×`` or
    an empty string.
    """

    metric: str
    unit: str
    model: str
    target: str | None
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def bigger_is_better(self) -> bool:
        return metrics.known(self.metric).higher_is_better


def measured(data: ReportData) -> list[Measured]:
    """Return every finite number of the measured models, or of the ledger if none was measured.

    Only the candidate's latencies have bounds, because a bootstrap for every model takes long.
    A bound that is not finite is left out; a number whose value is not finite is left out whole.
    """
    numbers = _measured(data) if data.measurements else _ledger(data)
    return [_bounded(number) for number in numbers if math.isfinite(number.value)]


def of_candidate(numbers: Iterable[Measured]) -> list[Measured]:
    """Return the candidate's numbers."""
    return [number for number in numbers if number.model == CANDIDATE]


def plain(value: float) -> str:
    """Format a number: integers exactly, others with six significant digits."""
    if value.is_integer():
        return f"{value:.0f}"
    return f"{value:.6g}"


def rounded(value: float) -> float:
    """Return a number rounded as in ``plain``."""
    return float(plain(value))


def _bounded(number: Measured) -> Measured:
    low = number.low
    high = number.high
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return Measured(number.metric, number.unit, number.model, number.target, number.value)
    return number


def _make(metric: str, model: str, target: str | None, interval: Interval) -> Measured:
    unit = metrics.known(metric).unit
    exact = interval.low == interval.high
    bounds = (None, None) if exact else (interval.low, interval.high)
    return Measured(metric, unit, model, target, interval.value, *bounds)


def _exact(metric: str, model: str, value: float | None) -> Iterator[Measured]:
    if value is not None:
        exact = float(value)
        yield _make(metric, model, None, Interval(exact, exact, exact))


def _measured(data: ReportData) -> Iterator[Measured]:
    from pipeline.measure import cold_start
    from pipeline.measure.statistics import carries

    measured = data.measurements
    if measured is None:
        return
    for name, model in measured.models.items():
        share = facts.accuracy(data, name)
        if share is not None:
            yield _make(measured.main, name, None, share)
        for metric in metrics.of_kind("count"):
            yield from _exact(metric, name, getattr(model, metric))
        if carries(50, len(model.cold_start)):
            started = cold_start.median(model.cold_start)
            yield _make("cold_start", name, None, started)
    # As the verdict has them: against the first reference, whatever most budgets name.
    first = next(iter(measured.references), None)
    yield from _scores(measured)
    yield from _agreement(measured, first)
    for target, latency in measured.latency.items():
        for name, whole in itertools.product(latency.samples, (False, True)):
            yield from _percentiles(latency, name, target, whole=whole)
        faster = facts.speedup(data, target, first)
        if faster is not None:
            yield _make("speedup", CANDIDATE, target, faster)


def _scores(measured: Measurements) -> Iterator[Measured]:
    """Yield the candidate's other scores; none if it outputs NaN."""
    answers = measured.models[CANDIDATE].answers
    if measured.truth and all(math.isfinite(p) for row in answers for p in row):
        for metric in measured.scored_by.scorer.formulas(measured.truth):
            if metric != measured.main:
                yield _make(metric, CANDIDATE, None, measured.score(metric, CANDIDATE))


def _agreement(measured: Measurements, name: str | None) -> Iterator[Measured]:

    if name is None or CANDIDATE not in measured.models or not measured.truth:
        return
    if not measured.unlabelled:  # there, it is the score
        ours = measured.table(CANDIDATE)
        theirs = measured.table(name)
        yield _make("agreement", CANDIDATE, None, measured.agreement(ours, theirs))


def _percentiles(timed: Latency, name: str, target: str, *, whole: bool) -> Iterator[Measured]:
    """Yield the percentiles for which the model has enough calls."""
    samples = timed.calls(name, whole=whole)
    if not all(math.isfinite(call) for process in samples for call in process):
        return
    for percent in metrics.PERCENTILES:
        value = facts.percentile(samples, percent)
        if value is None:
            continue
        interval = Interval(value, value, value)
        if name == CANDIDATE:
            interval = timed.percentile(name, percent, whole=whole)
        clock = "latency"
        if whole:
            clock = "end_to_end"
        yield _make(f"{clock}_p{percent}", name, target, interval)


def _ledger(data: ReportData) -> Iterator[Measured]:
    row = facts.candidate_row(data)
    if row is None:
        return
    if row.metric and row.accuracy:
        yield _make(row.metric, CANDIDATE, None, Interval(*row.accuracy))
    yield from _exact("size", CANDIDATE, row.size)
    yield from _exact("parameters", CANDIDATE, row.parameters)
