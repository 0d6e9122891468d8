"""Derive comparisons from a run's raw numbers: which models are compared, and by how much."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rarefy.pipeline.measure.measurements import CANDIDATE, FASTEST_FLOAT, Measurements
from rarefy.pipeline.measure.predictions import decided
from rarefy.pipeline.measure.predictions.per_class import ClassResult
from rarefy.pipeline.store.artifact import MODELS, Kind
from rarefy.pipeline.terms import metrics, wording
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.recipe_parts import LINEAR
from rarefy.pipeline.verdict.record import LedgerRow, ReportData

PROBE = "linear model on embeddings of the untrained model"
LINEAR_MODEL = "linear model (TF-IDF of words and pairs of words)"


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

    ``lost``: only the reference is correct; ``won``: only the candidate is; ``both_wrong``: they
    differ and neither is. ``p`` is ``scores.chance``, of lost = won; None if the reference's own
    predictions are the truth.
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
    budgets = []
    if data.verdict:
        budgets = data.verdict.budgets
    names = Counter(measured.name_of(budget.against) for budget in budgets if budget.against)
    for name, _ in names.most_common():
        if name in measured.models:
            return name
    return next(iter(measured.references), None)


def compared(data: ReportData) -> tuple[Measurements, str] | None:
    """Return the measurements and the reference; None unless it and the candidate were measured."""
    measured = data.measurements
    name = reference(data)
    if measured is None or name is None or CANDIDATE not in measured.models:
        return None
    return measured, name


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
    if models:
        return models[-1]
    return None


def percentile(samples: Sequence[Sequence[float]], percent: float) -> float | None:
    """Return a percentile of calls (process × calls); None if there are too few for it."""
    from rarefy.pipeline.measure.statistics import intervals

    calls = sum(map(len, samples))
    if not intervals.carries(percent, calls):
        return None
    return intervals.percentile_of(samples, percent)


def median(samples: Sequence[Sequence[float]]) -> float | None:
    """Return the median of calls (process × calls), however few; None if there are none."""
    from rarefy.pipeline.measure.statistics import intervals

    if any(samples):
        return intervals.percentile_of(samples, 50)
    return None


def compared_samples(data: ReportData, target: str) -> dict[str, list[list[float]]]:
    """Return the calls (process × calls, in ms) of the candidate and the reference, if timed."""
    if data.measurements is None:
        return {}
    samples = data.measurements.latency[target].samples
    models = [CANDIDATE, reference(data)]
    return {model: samples[model] for model in models if model and any(samples.get(model, []))}


def accuracy(data: ReportData, model: str) -> Interval | None:
    """Return a measured model's main score, such as accuracy; None if it has no predictions."""
    measured = data.measurements
    if measured is None or model not in measured.models or not measured.truth:
        return None
    return measured.score(measured.main, model)


def divergence(data: ReportData) -> Interval | None:
    """Return the candidate's mean divergence from the first reference, in nats.

    Returns None if there is no reference, or predictions are no probabilities.
    """
    measured = data.measurements
    if measured is None or not measured.references or not measured.scored_by.scorer.probable:
        return None
    ours = measured.table(CANDIDATE)
    theirs = measured.table(measured.references[0])
    return measured.divergence(ours, theirs)


def points(data: ReportData, target: str) -> list[Point]:
    """Return every model that has both an accuracy and a latency on ``target``.

    A model that outputs NaN has a score that is not finite, such as a correlation: it is left out.
    """
    if data.measurements is None:
        return []
    timed = data.measurements.latency[target]
    on_target = data.model_copy(update={"measurements": data.measurements.on(target)})
    models = []
    for model, samples in timed.samples.items():
        score = None
        if any(samples):
            score = accuracy(on_target, model)
        if score and all(map(math.isfinite, score)):
            latency = timed.percentile(model, 50)
            models.append(Point(model, latency, score, model == CANDIDATE))
    return models


def pareto(models: list[Point]) -> list[Point]:
    """Return the Pareto front, fastest first: no other model is both faster and more accurate."""
    front: list[Point] = []
    for point in sorted(models, key=lambda p: (p.latency.value, -p.accuracy.value)):
        if not front or point.accuracy.value > front[-1].accuracy.value:
            front.append(point)
    return front


def flips(data: ReportData) -> Flips | None:
    """Compare candidate and reference row by row; None if either was not measured."""
    from rarefy.pipeline.measure.predictions import per_class as classes
    from rarefy.pipeline.measure.statistics import scores

    sides = compared(data)
    if sides is None or not sides[0].truth:
        return None
    measured, name = sides
    task = measured.scored_by
    ours = measured.table(CANDIDATE)
    theirs = measured.table(name)
    correct = task.scorer.correct(ours, measured.truth)
    reference_correct = task.scorer.correct(theirs, measured.truth)
    won, lost = scores.flips(correct, reference_correct)
    p = None
    if not measured.is_truth(name):
        p = scores.chance(correct, reference_correct, measured.groups)
    by_class = tuple(classes.compare(measured, name))
    if not by_class or task.presenter.table_rows != "row":
        return Flips(name, len(correct), lost, won, 0, p, ())
    differ = int((~task.scorer.agreement(ours, theirs)).sum())
    return Flips(name, len(measured.truth), lost, won, differ - lost - won, p, by_class)


def test(data: ReportData) -> str:
    """Return the name of the test of ``Flips`` and of slices; see ``scores.chance``."""
    grouped = data.measurements is not None and data.measurements.groups
    if grouped:
        return "Fisher’s exact test by groups"
    return "McNemar’s exact test"


def block(data: ReportData) -> str:
    """Return what the task calls what is counted and compared, such as a query or a row."""
    measured = data.measurements
    if measured is not None:
        return measured.scored_by.scorer.block_name(measured.truth)
    return "row"


def evaluated(data: ReportData) -> str:
    """Return how many rows, or other blocks, the candidate was scored on: ``48 eval queries``.

    If some are in one group, it says in how many groups: ``600 eval rows in 60 groups``.
    """
    assert data.measurements is not None
    blocks = len(data.measurements.right(CANDIDATE))
    counted = wording.plural(blocks, f"eval {block(data)}")
    groups = len(set(data.measurements.groups))
    if groups:
        return f"{counted} in {wording.plural(groups, 'group')}"
    return counted


def learned_nothing(data: ReportData) -> str | None:
    """Return why a share of the reference means nothing, without a subject; None if it does."""
    from rarefy.pipeline.measure.predictions import floor

    measured = data.measurements
    name = reference(data)
    if measured is None or name is None:
        return None
    return floor.of_model(measured, name)


def decided_line(measured: Measurements | None) -> str | None:
    """Return how many eval rows the candidate's thresholds leave undecided, in a sentence."""
    share = decided.of(measured) if measured else None
    if share is None:
        return None
    line = f"Thresholds leave {wording.bounds(share.undecided, '%')} of the eval rows undecided"
    if share.correct is None:
        return f"{line}."
    return f"{line}; of the others, {wording.bounds(share.correct, '%')} are correct."


def without_model(data: ReportData) -> tuple[str, float] | None:
    """Return the name and main score of what needs no model, such as BM25, if the task has it."""
    measured = data.measurements
    if measured is not None:
        return measured.scored_by.scorer.baseline(measured.truth)
    return None


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

    Returns None if there is no such number.
    """
    sides = compared(data)
    if sides is None:
        return None
    measured, name = sides
    if not measured.right(name).any():
        return None
    ours = measured.table(CANDIDATE)
    theirs = measured.table(name)
    share = measured.compare(measured.main, ours, theirs).ratio
    if math.isfinite(share.value):
        return share
    return None


def float_speedup(measured: Measurements, target: str) -> str | None:
    """Return ``2.31× [2.2, 2.4] against the fastest float form …``; None if only one was timed.

    A speed-up over fp32 in ONNX Runtime is not yet one over the best that a float model can do:
    where the CPU has bf16, OpenVINO computes in it and is 1.3 to 1.8 times as fast, at the same
    accuracy. The forms are those of the first reference: fp32 in ONNX Runtime, and OpenVINO's
    default.
    """
    timed = measured.latency[target]
    first = next(iter(measured.references), "")
    forms = {first: "ONNX Runtime in fp32", FASTEST_FLOAT: "OpenVINO"}
    model = measured.models.get(FASTEST_FLOAT)
    if model and model.precision:
        forms[FASTEST_FLOAT] += f" in {model.precision}"
    medians = {name: median(timed.samples.get(name, [])) for name in (CANDIDATE, *forms)}
    if None in medians.values():
        return None
    fastest, slowest = sorted(forms, key=lambda name: medians[name] or 0.0)
    ratio = wording.bounds(timed.ratio(fastest, CANDIDATE), "×")
    return (
        f"{ratio} compared with the fastest floating-point configuration of {first}, "
        f"{forms[fastest]} (timed together with {forms[slowest]})"
    )


def float_speedups(measured: Measurements | None) -> list[str]:
    """Return a line for each target on which two float forms were timed."""
    lines = []
    for target in measured.latency if measured else ():
        assert measured is not None
        words = float_speedup(measured, target)
        if words:
            lines.append(f"speed on {target}: {words}")
    return lines


def linear_score(measured: Measurements) -> Interval:
    """Return the linear model's main score with its interval."""
    return measured.score_of(measured.main, measured.linear_table())


def linear_line(measured: Measurements | None) -> str | None:
    """Return the linear model's score, time, size and training; None if there is no such model.

    The time is the median of single rows, in scikit-learn and in the process that measures.
    """
    from statistics import median

    if measured is None or measured.linear is None:
        return None
    model = measured.linear
    main = measured.main
    score = wording.bounds(linear_score(measured), metrics.known(main).unit)
    time = wording.quantity(median(model.milliseconds), "ms")
    size = wording.quantity(model.size, "B")
    return (
        f"{LINEAR_MODEL}: {main} {score}, {time} from text to prediction, {size}, "
        f"trained in {model.seconds:.0f} s on {model.rows:,} rows"
    )


def probe_line(measured: Measurements | None) -> str | None:
    """Return the score of the regression on embeddings, and how the candidate differs from it."""
    import numpy as np

    if measured is None or measured.probe is None:
        return None
    main = measured.main
    table = np.asarray(measured.probe.answers, float)
    score = wording.bounds(measured.score_of(main, table), metrics.known(main).unit)
    difference = measured.compare(main, measured.table(CANDIDATE), table).difference
    value, low, high = map(wording.signed, difference)
    return (
        f"{PROBE}: {main} {score}, fitted in {measured.probe.seconds:.0f} s to "
        f"{measured.probe.rows:,} rows; the candidate differs by {value} points [{low}, {high}]"
    )


def with_predictions(rows: Sequence[LedgerRow], measured: Measurements) -> list[LedgerRow]:
    """Return the rows of a ledger, those of files of predictions with their score on eval."""
    scored = []
    for row in rows:
        if row.id in measured.predicted:
            score = measured.score(measured.main, row.id)
            update = {
                "metric": measured.main,
                "accuracy": (score.value, score.low, score.high),
                "rows": len(measured.truth),
            }
            row = row.model_copy(update=update)
        scored.append(row)
    return scored


def linear_row(measured: Measurements | None) -> LedgerRow | None:
    """Return the linear model's row of the ledger; None if there is no such model."""
    if measured is None or measured.linear is None:
        return None
    score = linear_score(measured)
    return LedgerRow(
        id=LINEAR,
        stage="validate",
        kind=LINEAR,
        digest="",
        cached=False,
        seconds=measured.linear.seconds,
        metric=measured.main,
        accuracy=(score.value, score.low, score.high),
        rows=len(measured.truth),
        size=measured.linear.size,
    )
