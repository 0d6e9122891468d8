"""What a report says beyond the raw numbers: who is compared with whom, and by how much."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import count

from pipeline.measure.measurements import CANDIDATE, Measurements
from pipeline.store.artifact import Kind
from pipeline.verdict.record import LedgerRow, ReportData

PERCENTILES = (50, 90, 95, 99)
Z95 = 1.959964
SEED = 0


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """A model on the plane of accuracy (share) against median latency (ms)."""

    name: str
    latency: Interval
    accuracy: Interval
    candidate: bool


@dataclass(frozen=True)
class ClassFlips:
    """One class: rows, and rows on which exactly one of the two models is right."""

    label: str
    rows: int
    lost: int
    won: int


@dataclass(frozen=True)
class Flips:
    """Candidate against reference on the same rows.

    ``lost``: only the reference is right; ``won``: only the candidate is; ``both_wrong``: they
    differ and neither is. ``p`` is McNemar's exact test of lost = won.
    """

    reference: str
    rows: int
    lost: int
    won: int
    both_wrong: int
    p: float
    classes: tuple[ClassFlips, ...]

    @property
    def differ(self) -> int:
        return self.lost + self.won + self.both_wrong


def reference(data: ReportData) -> str | None:
    """Return the model that the candidate is compared with: the one most budgets name."""
    measured = data.measurements
    if measured is None:
        return None
    budgets = data.verdict.budgets if data.verdict else []
    named = Counter(measured.name_of(b.against) for b in budgets if b.against)
    for name, _ in named.most_common():
        if name is not None:
            return name
    return next(iter(measured.references), None)


def measured_name(data: ReportData, row: LedgerRow) -> str | None:
    """Return the name under which a ledger row was measured, None where it was not."""
    if data.measurements is None:
        return None
    candidate = data.measurements.models.get(CANDIDATE)
    if candidate and candidate.digest == row.digest and row.kind == Kind.BUNDLE:
        return CANDIDATE
    return data.measurements.name_of(row.id)


def candidate_row(data: ReportData) -> LedgerRow | None:
    """Return the ledger row of what is delivered: the measured bundle, else the last model."""
    models = [row for row in data.ledger if row.kind != Kind.REPORT]
    for row in models:
        if measured_name(data, row) == CANDIDATE:
            return row
    return models[-1] if models else None


def pooled(samples: dict[str, list[list[float]]], model: str) -> list[float]:
    """Return a model's samples of all processes, ascending, in ms; none where it has none."""
    return sorted(sample for process in samples.get(model, []) for sample in process)


def percentile(ascending: list[float], percent: int) -> float | None:
    """Return a percentile by linear interpolation; None where the sample cannot carry it."""
    from pipeline.measure.statistics import carries

    if not carries(percent, len(ascending)):
        return None
    position = percent / 100 * (len(ascending) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (ascending[above] - ascending[below]) * (position - below)


def samples_needed(percent: int) -> int:
    """Return the smallest sample that can carry a percentile."""
    from pipeline.measure.statistics import carries

    return next(n for n in count(1) if carries(percent, n))


def median(ascending: list[float]) -> Interval:
    """Return the median of a non-empty sample and its distribution-free interval.

    The bounds are order statistics whose ranks follow the binomial's normal approximation.
    """
    n = len(ascending)
    middle = (ascending[(n - 1) // 2] + ascending[n // 2]) / 2
    reach = Z95 * math.sqrt(n) / 2
    low = max(0, math.floor(n / 2 - reach))
    high = min(n - 1, math.ceil(n / 2 + reach))
    return Interval(middle, ascending[low], ascending[high])


def right(measured: Measurements, model: str) -> list[bool]:
    """Return for each eval row whether the model's most probable label is the true one."""
    answers = answer(measured, model)
    return [given == true for given, true in zip(answers, measured.truth, strict=True)]


def answer(measured: Measurements, model: str) -> list[int]:
    """Return the index of each eval row's most probable label, -1 where an answer is no number."""
    import numpy as np

    from pipeline.measure.statistics import answers

    found: list[int] = answers(np.array(measured.models[model].probabilities)).tolist()
    return found


def accuracy(data: ReportData, model: str) -> Interval | None:
    """Return a measured model's accuracy from its answers; None where it has none."""
    from pipeline.measure.statistics import wilson

    measured = data.measurements
    if measured is None or model not in measured.models or not measured.truth:
        return None
    hits = right(measured, model)
    return Interval(*wilson(sum(hits), len(hits)))


def points(data: ReportData, target: str) -> list[Point]:
    """Return every model that has both an accuracy and a latency on ``target``."""
    if data.measurements is None:
        return []
    latency = data.measurements.latency[target]
    found = []
    for model in latency.samples:
        ascending, share = pooled(latency.samples, model), accuracy(data, model)
        if ascending and share:
            found.append(Point(model, median(ascending), share, model == CANDIDATE))
    return found


def pareto(models: list[Point]) -> list[Point]:
    """Return the models that no other one beats in both latency and accuracy, fastest first."""
    front: list[Point] = []
    for point in sorted(models, key=lambda p: (p.latency.value, -p.accuracy.value)):
        if not front or point.accuracy.value > front[-1].accuracy.value:
            front.append(point)
    return front


def flips(data: ReportData) -> Flips | None:
    """Compare candidate and reference row by row; None where either was not measured."""
    from pipeline.measure.statistics import mcnemar

    measured, name = data.measurements, reference(data)
    if measured is None or name is None or CANDIDATE not in measured.models or not measured.truth:
        return None
    ours, theirs = answer(measured, CANDIDATE), answer(measured, name)
    lost: Counter[int] = Counter()
    won: Counter[int] = Counter()
    both_wrong = 0
    for mine, other, true in zip(ours, theirs, measured.truth, strict=True):
        lost[true] += mine != true and other == true
        won[true] += mine == true and other != true
        both_wrong += mine != other and true not in (mine, other)
    rows = Counter(measured.truth)
    classes = tuple(
        ClassFlips(label, rows[index], lost[index], won[index])
        for index, label in enumerate(measured.labels)
    )
    total_lost, total_won = lost.total(), won.total()
    p = mcnemar(total_won, total_lost)
    return Flips(name, len(ours), total_lost, total_won, both_wrong, p, classes)


def speedup(data: ReportData, target: str) -> Interval | None:
    """Return how many times faster the candidate's median is than the reference's."""
    from pipeline.measure.statistics import percentile_ratio

    name = reference(data)
    if data.measurements is None or name is None:
        return None
    timed = data.measurements.latency[target]
    samples, looks = timed.samples, timed.looks
    if not (samples.get(name) and samples.get(CANDIDATE)):
        return None
    return Interval(*percentile_ratio(samples[name], samples[CANDIDATE], 50, SEED, looks))


def retained(data: ReportData) -> Interval | None:
    """Return the share of the reference's accuracy that is kept, as the verdict has it."""
    import numpy as np

    from pipeline.measure import scores

    measured, name = data.measurements, reference(data)
    if measured is None or name is None or CANDIDATE not in measured.models:
        return None
    if not any(right(measured, name)):
        return None
    ours, theirs = (np.array(measured.models[model].probabilities) for model in (CANDIDATE, name))
    return Interval(*scores.compare("accuracy", ours, theirs, np.array(measured.truth), SEED).ratio)
