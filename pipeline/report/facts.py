"""Derive comparisons from a run's raw numbers: which models are compared, and by how much."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.measure.classes import ClassResult
from pipeline.measure.measurements import CANDIDATE
from pipeline.store.artifact import MODELS, Kind
from pipeline.terms import wording
from pipeline.terms.interval import Interval
from pipeline.verdict.record import LedgerRow, ReportData


@dataclass(frozen=True)
class Point:
    """A model in the plot of accuracy (share) against median latency (ms)."""

    name: str
    latency: Interval
    accuracy: Interval
    candidate: bool


@dataclass(frozen=True)
class Flips:
    """Rows on which candidate and reference disagree.

    ``lost``: only the reference is right; ``won``: only the candidate is; ``both_wrong``: they
    differ and neither is. ``p`` is ``scores.chance``, of lost = won; None if the reference's own
    answers are the truth.
    """

    reference: str
    rows: int
    lost: int
    won: int
    both_wrong: int
    p: float | None
    classes: tuple[ClassResult, ...]

    @property
    def differ(self) -> int:
        return self.lost + self.won + self.both_wrong


def reference(data: ReportData) -> str | None:
    """Return the model that most budgets compare the candidate with; None if there is none."""
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
    """Return the name under which a ledger row was measured; None if it was not measured."""
    if data.measurements is None:
        return None
    candidate = data.measurements.models.get(CANDIDATE)
    if candidate and candidate.digest == row.digest and row.kind == Kind.BUNDLE:
        return CANDIDATE
    return data.measurements.name_of(row.id)


def candidate_row(data: ReportData) -> LedgerRow | None:
    """Return the ledger row of the delivered model: the measured bundle, else the last model."""
    models = [row for row in data.ledger if row.kind in MODELS]
    for row in models:
        if measured_name(data, row) == CANDIDATE:
            return row
    return models[-1] if models else None


def percentile(samples: Sequence[Sequence[float]], percent: float) -> float | None:
    """Return a percentile of calls (process × calls); None if there are too few for it."""
    from pipeline.measure import statistics

    carried = statistics.carries(percent, sum(map(len, samples)))
    return statistics.percentile_of(samples, percent) if carried else None


def median(samples: Sequence[Sequence[float]]) -> float | None:
    """Return the median of calls (process × calls), however few; None if there are none."""
    from pipeline.measure import statistics

    return statistics.percentile_of(samples, 50) if any(samples) else None


def accuracy(data: ReportData, model: str) -> Interval | None:
    """Return a measured model's main score, such as accuracy; None if it has no answers."""
    measured = data.measurements
    if measured is None or model not in measured.models or not measured.truth:
        return None
    return measured.score(measured.main, model)


def divergence(data: ReportData) -> Interval | None:
    """Return the candidate's mean divergence from the first reference, in nats.

    None if there is no reference, or answers are no probabilities.
    """
    measured = data.measurements
    if measured is None or not measured.references or not measured.scored_by.probable:
        return None
    ours, theirs = measured.table(CANDIDATE), measured.table(measured.references[0])
    return measured.divergence(ours, theirs)


def points(data: ReportData, target: str) -> list[Point]:
    """Return every model that has both an accuracy and a latency on ``target``.

    One that answers NaN may have a score, such as a correlation, that is none.
    """
    if data.measurements is None:
        return []
    timed = data.measurements.latency[target]
    there = data.model_copy(update={"measurements": data.measurements.on(target)})
    return [
        Point(model, timed.percentile(model, 50), share, model == CANDIDATE)
        for model, samples in timed.samples.items()
        if any(samples) and (share := accuracy(there, model)) and all(map(math.isfinite, share))
    ]


def pareto(models: list[Point]) -> list[Point]:
    """Return the Pareto front, fastest first: no other model is both faster and more accurate."""
    front: list[Point] = []
    for point in sorted(models, key=lambda p: (p.latency.value, -p.accuracy.value)):
        if not front or point.accuracy.value > front[-1].accuracy.value:
            front.append(point)
    return front


def flips(data: ReportData) -> Flips | None:
    """Compare candidate and reference row by row; None if either was not measured."""
    from pipeline.measure import classes, scores

    measured, name = data.measurements, reference(data)
    if measured is None or name is None or CANDIDATE not in measured.models or not measured.truth:
        return None
    task, ours, theirs = measured.scored_by, measured.table(CANDIDATE), measured.table(name)
    right = task.right(ours, measured.truth), task.right(theirs, measured.truth)
    won, lost = scores.flips(*right)
    p = None if measured.is_truth(name) else scores.chance(*right, measured.groups)
    by_class = tuple(classes.compare(measured, name))
    if not by_class or task.marked != "row":
        return Flips(name, len(right[0]), lost, won, 0, p, ())
    differ = int((~task.same(ours, theirs)).sum())
    return Flips(name, len(measured.truth), lost, won, differ - lost - won, p, by_class)


def test(data: ReportData) -> str:
    """Return the name of the test of ``Flips`` and of slices; see ``scores.chance``."""
    grouped = data.measurements is not None and data.measurements.groups
    return "Fisher’s exact test by groups" if grouped else "McNemar’s exact test"


def block(data: ReportData) -> str:
    """Return what the task calls what is counted and compared, such as a query or a row."""
    measured = data.measurements
    return measured.scored_by.block(measured.truth) if measured is not None else "row"


def evaluated(data: ReportData) -> str:
    """Return how many rows, or other blocks, the candidate was scored on: ``48 eval queries``.

    And in how many groups, if some are in one: ``600 eval rows in 60 groups``.
    """
    assert data.measurements is not None
    counted = wording.plural(len(data.measurements.right(CANDIDATE)), f"eval {block(data)}")
    groups = len(set(data.measurements.groups))
    return f"{counted} in {wording.plural(groups, 'group')}" if groups else counted


def learned_nothing(data: ReportData) -> str | None:
    """Return why a share of the reference means nothing, without a subject; None if it does."""
    from pipeline.measure import floor

    measured, name = data.measurements, reference(data)
    return None if measured is None or name is None else floor.of_model(measured, name)


def beside(data: ReportData) -> tuple[str, float] | None:
    """Return the name and main score of what needs no model, such as BM25, if the task has it."""
    measured = data.measurements
    return measured.scored_by.beside(measured.truth) if measured is not None else None


def speedup(data: ReportData, target: str, name: str | None = None) -> Interval | None:
    """Return a model's median latency divided by the candidate's; None if it was not measured.

    ``name``: by default the model that most budgets name.
    """
    name = name or reference(data)
    if data.measurements is None or name is None:
        return None
    timed = data.measurements.latency[target]
    if not (timed.samples.get(name) and timed.samples.get(CANDIDATE)):
        return None
    return timed.ratio(name, CANDIDATE)


def retained(data: ReportData) -> Interval | None:
    """Return the share of the reference's main score that is retained, as in the verdict.

    None if there is no such number.
    """
    measured, name = data.measurements, reference(data)
    if measured is None or name is None or CANDIDATE not in measured.models:
        return None
    if not measured.right(name).any():
        return None
    ours, theirs = measured.table(CANDIDATE), measured.table(name)
    kept = measured.compare(measured.main, ours, theirs).ratio
    return kept if math.isfinite(kept.value) else None
