"""The numbers of a run that other tools keep: of which model, on which target, how sure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.measure.measurements import CANDIDATE, Measurements
from pipeline.report import facts
from pipeline.terms import metrics
from pipeline.verdict.record import ReportData


@dataclass(frozen=True)
class Measured:
    """One number with its 95 % bounds, where it has any: shares, ms, bytes, ratios, counts.

    ``unit`` is that of ``METRICS``: ``%`` for a share between 0 and 1, ``ms``, ``B``, ``×``
    or nothing.
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
    """Return every finite number of the measured models; without any, those of the ledger.

    Latencies have bounds for the candidate only: a bootstrap for each of all models takes long.
    A bound that is no finite number is left out; a value that is none takes its number with it.
    """
    found = _measured(data) if data.measurements else _ledger(data)
    return [_bounded(number) for number in found if math.isfinite(number.value)]


def of_candidate(numbers: Iterable[Measured]) -> list[Measured]:
    """Return the numbers of what would be released."""
    return [number for number in numbers if number.model == CANDIDATE]


def plain(value: float) -> str:
    """Write a number without noise: whole numbers exactly, others with six digits."""
    return f"{value:.0f}" if value.is_integer() else f"{value:.6g}"


def rounded(value: float) -> float:
    """Round a number as ``plain`` writes it."""
    return float(plain(value))


def _bounded(number: Measured) -> Measured:
    low, high = number.low, number.high
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return Measured(number.metric, number.unit, number.model, number.target, number.value)
    return number


def _make(metric: str, model: str, target: str | None, found: facts.Interval) -> Measured:
    unit = metrics.known(metric).unit
    exact = found.low == found.high
    bounds = (None, None) if exact else (found.low, found.high)
    return Measured(metric, unit, model, target, found.value, *bounds)


def _exact(metric: str, model: str, value: float | None) -> Iterator[Measured]:
    if value is not None:
        exact = float(value)
        yield _make(metric, model, None, facts.Interval(exact, exact, exact))


def _measured(data: ReportData) -> Iterator[Measured]:
    from pipeline.measure import cold_start
    from pipeline.measure.statistics import carries

    found = data.measurements
    if found is None:
        return
    for name, model in found.models.items():
        share = facts.accuracy(data, name)
        if share is not None:
            yield _make("accuracy", name, None, share)
        for metric in metrics.of_kind("count"):
            yield from _exact(metric, name, getattr(model, metric))
        if carries(50, len(model.cold_start)):
            started = facts.Interval(*cold_start.median(model.cold_start))
            yield _make("cold_start", name, None, started)
    yield from _scores(found)
    yield from _agreement(data)
    for target, latency in found.latency.items():
        for name, samples in latency.samples.items():
            yield from _percentiles("latency", name, target, samples, latency.looks)
            yield from _percentiles(
                "end_to_end", name, target, latency.end_to_end(name), latency.looks
            )
        faster = facts.speedup(data, target)
        if faster is not None:
            yield _make("speedup", CANDIDATE, target, faster)


def _scores(found: Measurements) -> Iterator[Measured]:
    """Yield the candidate's other scores. Where it answers NaN, there are none."""
    import numpy as np

    from pipeline.measure import scores

    ours = np.asarray(found.models[CANDIDATE].probabilities, dtype=float)
    if len(found.truth) and np.isfinite(ours).all():
        for metric in ("macro_f1", "ece"):
            known = scores.alone(metric, ours, np.asarray(found.truth), facts.SEED)
            yield _make(metric, CANDIDATE, None, facts.Interval(*known))


def _agreement(data: ReportData) -> Iterator[Measured]:
    from pipeline.measure.statistics import wilson

    flips = facts.flips(data)
    if flips is not None:
        same = wilson(flips.rows - flips.differ, flips.rows)
        yield _make("agreement", CANDIDATE, None, facts.Interval(*same))


def _percentiles(
    clock: str, name: str, target: str, samples: list[list[float]], looks: int
) -> Iterator[Measured]:
    """Yield the percentiles that a model's calls can carry."""
    from pipeline.measure.statistics import percentile_interval

    ascending = sorted(call for process in samples for call in process)
    if not all(map(math.isfinite, ascending)):
        return
    for percentile in metrics.PERCENTILES:
        value = facts.percentile(ascending, percentile)
        if value is None:
            continue
        found = facts.Interval(value, value, value)
        if name == CANDIDATE:
            found = facts.Interval(*percentile_interval(samples, percentile, facts.SEED, looks))
        yield _make(f"{clock}_p{percentile}", name, target, found)


def _ledger(data: ReportData) -> Iterator[Measured]:
    row = facts.candidate_row(data)
    if row is None:
        return
    if row.metric and row.accuracy:
        yield _make(row.metric, CANDIDATE, None, facts.Interval(*row.accuracy))
    yield from _exact("size", CANDIDATE, row.size)
    yield from _exact("parameters", CANDIDATE, row.parameters)
