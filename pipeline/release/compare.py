"""Compare two bundles: answers to the same rows, latencies measured side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rarefy.pipeline import tasks
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure import engines, exclusive, machine
from rarefy.pipeline.measure.latency import compare as gate
from rarefy.pipeline.measure.measurements import CANDIDATE, Latency, Measurements, ModelMeasurement
from rarefy.pipeline.measure.memory import memory
from rarefy.pipeline.measure.predictions import examples, slices
from rarefy.pipeline.measure.predictions import predict as accuracy
from rarefy.pipeline.measure.row_lengths import rows_to_time
from rarefy.pipeline.measure.statistics import scores
from rarefy.pipeline.measure.throughput import compare as counting
from rarefy.pipeline.measure.throughput.rows import job_of
from rarefy.pipeline.release import bundles
from rarefy.pipeline.release.bundles import Bundle
from rarefy.pipeline.run.plan import baselines
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.tasks import Task, unlabelled
from rarefy.pipeline.tasks import load as data
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.tasks.task import groups_of_blocks
from rarefy.pipeline.terms.budget import REGRESSIONS, Budget
from rarefy.pipeline.terms.errors import EvidenceError
from rarefy.pipeline.terms.progress import Progress, silent
from rarefy.pipeline.terms.recipe_parts import Data, Target
from rarefy.pipeline.verdict import judge as judging
from rarefy.pipeline.verdict.verdict import Verdict

BASELINE = "baseline"
SIDES = (CANDIDATE, BASELINE)
MARGIN = 0.05
"""The default margin on the latency ratio: a smaller change counts as equal."""
SEED = 0
"""Of the draw of the rows that are timed."""
SESSION = {"noise", "busy", "throttled", "seconds", "stopped", "provider", "threads"}
"""What the JSON values of a comparison say of the session in which both sides were timed."""


@dataclass(frozen=True)
class Effort:
    """Limits of the latency comparison: maximum rows, minimum processes, maximum seconds.

    ``throughput``: whether rows a second are measured too, for as long again.
    """

    rows: int
    processes: int
    seconds: float
    throughput: bool = False


@dataclass(frozen=True)
class Comparison:
    """The measurements of both sides, and whether the median latency changed by the margin.

    ``names``: the user's name for each side. ``latency``: the session in which both were timed.
    ``budgets``: those of the candidate's recipe, whose scores are compared too.
    """

    names: dict[str, str]
    measurements: Measurements
    latency: Latency
    change: gate.Comparison
    margin: float
    budgets: Sequence[Budget] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as JSON values.

        Differences are candidate − baseline, ratios candidate / baseline.
        """
        return {
            "models": {side: self._model_json(side) for side in SIDES},
            "rows": len(self.measurements.truth),
            "accuracy": compare_answers(self.measurements),
            "scores": compare_scores(self.measurements, self.budgets),
            "latency": self._latency_json(),
        } | self._throughput_json()

    def _model_json(self, side: str) -> dict[str, Any]:
        model = self.measurements.models[side]
        facts = model.model_dump(include={"digest", "size", "parameters"})
        return {"name": self.names[side], **facts}

    def _throughput_json(self) -> dict[str, Any]:
        """Return the rows a second of both sides; nothing if they were not measured."""
        for timed in self.measurements.throughput.values():
            values: dict[str, Any] = {}
            for side in SIDES:
                values[side] = timed.rate(side)._asdict()
                values[f"{side}_cpu_seconds"] = timed.cost(side)._asdict()
            values["ratio"] = timed.ratio(CANDIDATE, BASELINE)._asdict()
            values["change"] = counting.change(timed, self.margin)
            values["margin"] = self.margin
            values |= timed.model_dump(include={"workers", "batch", *SESSION})
            return {"throughput": values}
        return {}

    def _latency_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for side in SIDES:
            median = self.latency.percentile(side, 50)
            values[f"{side}_p50"] = median._asdict()
        values["ratio"] = self.change.ratio._asdict()
        values["change"] = self.change.change
        values["p"] = self.change.p
        values["margin"] = self.margin
        values |= self.latency.model_dump(include=SESSION)
        return values


def compare(
    candidate: Bundle,
    baseline: str,
    task: Task,
    split: Split,
    home: Home,
    *,
    target: Target = Target(),  # noqa: B008 (frozen)
    effort: Effort = Effort(rows=200, processes=5, seconds=60.0),
    margin: float = MARGIN,
    budgets: Sequence[Budget] = (),
    progress: Progress = silent,
) -> Comparison:
    """Measure a candidate beside a baseline, until the change of the latency is conclusive.

    Args:
        candidate: the bundle that is judged.
        baseline: the bundle it is compared with, as ``bundles.find`` takes it.
        task: what both sides are scored by.
        split: the rows that both answer; some of them are timed.
        home: where the baseline is looked up.
        target: provider and threads on which both sides run.
        effort: limits of the latency comparison.
        margin: the smallest change of the median latency that counts, as a share.
        budgets: those whose scores are compared too; they are not judged.
        progress: called with the work that is done.

    Raises ModelError if the labels differ, IntegrityError if a bundle is damaged, EvidenceError
    if the baseline's answers cannot be the truth of rows without labels.
    """
    bundles.check_bytes(candidate)
    other = bundles.find(baseline, home)
    baselines.check(other.name, other.directory, task)
    bundles.check_bytes(other)
    sides = {CANDIDATE: candidate, BASELINE: other}
    folders = {CANDIDATE: candidate.directory, BASELINE: other.directory}
    providers = engines.providers(folders, target.provider)
    models = {}
    for side, bundle in sides.items():
        runs_on = target.model_copy(update={"provider": providers[side]})
        models[side] = measure_side(bundle, task, split, runs_on, progress)
    texts, pairs = rows_to_time(task, split, effort.rows, SEED)
    with exclusive.measuring(exclusive.noted(progress)):
        change, latency = gate.measure(
            candidate.directory,
            other.directory,
            texts,
            pairs,
            margin,
            provider=target.provider,
            threads=target.threads,
            processes=effort.processes,
            seconds=effort.seconds,
            seed=SEED,
            progress=progress,
        )
        throughput = {}
        if effort.throughput:
            throughput[target.name] = counting.measure(
                candidate.directory,
                other.directory,
                job_of(task, split),
                target,
                margin,
                processes=effort.processes,
                seconds=effort.seconds,
                seed=SEED,
                progress=progress,
            )
    truth = truth_for(task, split, models[BASELINE])
    measurements = collect(models, task, split, truth)
    measurements.latency[target.name] = latency
    measurements.throughput |= throughput
    names = {CANDIDATE: candidate.name, BASELINE: other.name}
    return Comparison(names, measurements, latency, change, margin, budgets)


def measure_side(
    bundle: Bundle, task: Task, split: Split, target: Target, progress: Progress
) -> ModelMeasurement:
    """Measure a bundle's answers to the rows of ``split``, and its size."""
    answers = accuracy.bundle_answers(
        bundle.directory,
        task,
        split,
        progress=progress,
        provider=target.provider,
        threads=target.threads,
    )
    parameters = None
    if bundle.manifest is not None:
        parameters = bundle.manifest.model.get("parameters")
    return ModelMeasurement(
        digest=bundle.digest,
        size=memory.size(bundle.directory),
        parameters=parameters,
        answers=accuracy.as_table(answers),
    )


def truth_for(task: Task, split: Split, baseline: ModelMeasurement) -> list[Any]:
    """Return what both sides are scored by: for rows without labels, the baseline's answers.

    Raises EvidenceError if one of these is NaN or infinite.
    """
    if not task.unlabelled:
        return task.scorer.truth(split)
    answers = np.asarray(baseline.answers, dtype=float)
    if not np.isfinite(answers).all():
        raise EvidenceError(
            f"the baseline outputs NaN for rows of {split.reference}, so its predictions cannot "
            "serve as labels"
        )
    labels = task.objective.targets(answers, split)
    return task.scorer.truth(replace(split, labels=labels))


def collect(
    models: dict[str, ModelMeasurement], task: Task, split: Split, truth: list[Any]
) -> Measurements:
    """Return the measurements of both sides, without latencies, as budgets are judged by them."""
    samples = []
    if not task.unlabelled:
        samples = examples.choose(task, split, truth, models)
    return Measurements(
        machine=machine.fingerprint(),
        task=task.name,
        labels=list(task.labels),
        unlabelled=task.unlabelled,
        data=split.sha256,
        truth=truth,
        groups=groups_of_blocks(task, split),
        columns=slices.columns(split, task),
        models=models,
        latency={},
        samples=samples,
    )


def compare_answers(measurements: Measurements) -> dict[str, Any]:
    """Return both main scores, their paired difference and the flips.

    ``flips`` of the ``answers`` differ; ``gains`` and ``losses`` are of the ``blocks``, each a
    ``block``, e.g. a query. ``p`` is None for scores that do not count correct rows, whose
    difference has the interval of a bootstrap of blocks, and where nothing is ``tested``, as the
    baseline's own answers are the truth. If some are in one of ``groups``, whole
    groups are drawn and tested (``scores.chance``); 0 if none are.
    """
    task, truth, metric = measurements.scored_by, measurements.truth, measurements.main
    candidate, baseline = measurements.table(CANDIDATE), measurements.table(BASELINE)
    correct = measurements.right(CANDIDATE), measurements.right(BASELINE)
    gains, losses = scores.flips(*correct)
    agreement = measurements.agreement(candidate, baseline)
    difference = measurements.compare(metric, candidate, baseline).difference
    p = None
    counted = (
        task.scorer.counted and not measurements.unlabelled
    )  # or the baseline is always correct
    if counted:
        p = scores.chance(*correct, measurements.groups)
    values: dict[str, Any] = {"metric": metric}
    for side in SIDES:
        score = measurements.score(metric, side)
        values[side] = score._asdict()
    return values | {
        "difference": difference._asdict(),
        "p": p,
        "tested": counted or not task.scorer.counted,
        "groups": len(set(measurements.groups)),
        "agreement": agreement._asdict(),
        "answers": len(candidate),
        "block": task.scorer.block_name(truth),
        "blocks": len(correct[0]),
        "gains": gains,
        "losses": losses,
        "flips": round(len(candidate) * (1 - agreement.value)),
    }


def compare_scores(measurements: Measurements, budgets: Sequence[Budget]) -> list[dict[str, Any]]:
    """Return each score that budgets name, but the main one: of both sides, and their difference.

    Of metrics that are not scores of the task, nothing is returned; nor of answers with NaN.
    """
    if not all(np.isfinite(measurements.table(side)).all() for side in SIDES):
        return []
    compared = []
    for metric, budget in {budget.metric: budget for budget in budgets}.items():
        measured = measurements.scored_with(budget.own)
        is_score = measured.scored_by.scorer.formula(metric, measured.truth) is not None
        if metric == measured.main or not is_score:
            continue
        sides = [measured.table(side) for side in SIDES]
        values: dict[str, Any] = {"metric": metric}
        for side in SIDES:
            values[side] = measured.score(metric, side)._asdict()
        values["difference"] = measured.compare(metric, *sides).difference._asdict()
        compared.append(values)
    return compared


def judge(
    comparison: Comparison, limit: float, target: Target, recipe: Sequence[Budget] = ()
) -> Verdict:
    """Judge that the main score, median latency and size regress by no more than ``limit``.

    So must the throughput, if it was measured.

    Of rows without labels the main score is the agreement with the baseline's answers, of which the
    baseline itself has all: its regression is a drop. The budgets of the ``recipe`` on labels and
    slices are judged as well, against the baseline if they are against anything.
    """
    budgets = []
    main = comparison.measurements.main
    names = list(REGRESSIONS)
    if comparison.measurements.throughput:
        names.append("throughput")
    for name in names:
        metric = main if name == "accuracy" else name
        form = "max_drop" if metric == unlabelled.AGREEMENT else "max_regression"
        fields = {"metric": metric, "against": BASELINE, form: limit}
        budgets.append(Budget.model_validate(fields))
    for budget in recipe:
        if budget.cell is None:
            continue
        against = BASELINE if budget.against else None
        budgets.append(budget.model_copy(update={"against": against}))
    return judging.judge(budgets, [target], comparison.measurements)


def read_rows(
    candidate: Bundle, table: Data, base: Path, warnings: list[str]
) -> tuple[Task, Split]:
    """Return the candidate's task, and the eval rows that both sides answer.

    Rows without labels are compared by the baseline's answers.

    Args:
        candidate: the bundle, which names its task and labels.
        table: where the rows are, and which columns they have.
        base: the folder to which the paths of ``table`` are relative.
        warnings: gets what is to be said of the rows, such as how many were left out.

    Raises ModelError if the candidate does not name its task and labels, DataError if the rows have
    others.
    """
    name, labels = baselines.answers_of(candidate.name, candidate.directory, TEXT_CLASSIFICATION)
    unbound_task = unlabelled.for_data(tasks.find(name), table)
    task = unbound_task.bind(labels, table.max_length, table.text_columns)
    files = data.locate(table, base)
    return task, data.evaluated(table, task.reader, files, labels, warnings)
