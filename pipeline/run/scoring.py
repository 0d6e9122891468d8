"""Score an artifact on labelled rows; scores are measured once and kept in the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from rarefy.pipeline.data import corpus
from rarefy.pipeline.measure import machine
from rarefy.pipeline.run.plan.plan import READERS, Plan
from rarefy.pipeline.store.artifact import Artifact, Kind, Metric
from rarefy.pipeline.tasks.task import groups_of_blocks
from rarefy.pipeline.terms.digests import value_sha256, versions
from rarefy.pipeline.terms.errors import DataError, RarefyError
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.progress import Progress

VERSION = 10
LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "onnxruntime")
SCORED = (Kind.CHECKPOINT, Kind.ADAPTER, Kind.BUNDLE)


class Scored(NamedTuple):
    """The metrics of an artifact, and in one sentence that it has learned nothing, or None."""

    metrics: tuple[Metric, ...] = ()
    note: str | None = None


def score(
    plan: Plan,
    artifact: Artifact,
    check: Callable[[Artifact], None],
    progress: Progress,
    waiting: Callable[[], None],
    split: str = "eval",
) -> Scored:
    """Return the metrics of an artifact on a split; none for a kind that makes no predictions.

    If the store has no score yet, ``check`` verifies the artifact and the score is measured.
    Raises IntegrityError if the artifact is damaged, RarefyError if the model outputs NaN.
    """
    if artifact.kind not in SCORED:
        return Scored()
    key = _key(plan, artifact, split)
    note = _noted(plan, key)
    if note is None:
        with plan.store.lock(key, waiting):
            note = _noted(plan, key)  # another run may have scored it meanwhile
            if note is None:
                check(artifact)
                note = _measure(plan, artifact, progress, split)
                metrics = [metric.model_dump() for metric in note.metrics]
                plan.store.keep_note(key, {"metrics": metrics, "note": note.note})
    return note


def _noted(plan: Plan, key: str) -> Scored | None:
    """Return the score that the store has; None if it has none, or one without metrics."""
    scored: Scored | None = plan.store.note(key, Scored)
    return scored if scored and scored.metrics else None


def missing(plan: Plan, artifact: Artifact, split: str = "eval") -> bool:
    """Return whether an artifact, which is in the store, has yet to be scored."""
    if artifact.kind not in SCORED:
        return False
    key = _key(plan, artifact, split)
    return _noted(plan, key) is None


def _key(plan: Plan, artifact: Artifact, split: str) -> str:
    """Return a key of all that a score depends on; ONNX kernels and rounding depend on the CPU."""
    recipe = plan.loaded.recipe
    on: Any = plan.device
    if artifact.kind is Kind.BUNDLE:
        provider = recipe.targets[0].provider
        on = [provider, _threads(plan), machine.digest(machine.fingerprint())]
    value = {
        "version": VERSION,
        "artifact": artifact.digest,
        split: corpus.digest(plan.sources, split),
        "reading": plan.reading,
        "task": " ".join([recipe.task, *plan.task_code]),
        "labels": plan.labels,
        "libraries": versions((*LIBRARIES, *READERS)),
        "on": on,
        **plan.truth,
    }
    return f"score-{value_sha256(value)}"


def _threads(plan: Plan) -> int:
    """Return the threads that answer: answers are not timed, and more give the same ones sooner."""
    return max(plan.loaded.recipe.targets[0].threads, plan.threads)


def _measure(plan: Plan, artifact: Artifact, progress: Progress, name: str) -> Scored:
    """Return the scores of an artifact on the split ``name``."""
    import numpy as np

    from rarefy.pipeline.measure.predictions import floor
    from rarefy.pipeline.measure.predictions import predict as accuracy

    split = plan.splits[name]
    task = plan.task
    truth = task.scorer.truth(split)
    if not truth:
        raise DataError(f"{split.reference}: the {name} split needs labels")
    if artifact.kind is Kind.BUNDLE:
        answers = accuracy.bundle_answers(
            artifact.directory,
            task,
            split,
            provider=plan.loaded.recipe.targets[0].provider,
            threads=_threads(plan),
            progress=progress,
        )
    else:
        answers = accuracy.checkpoint_answers(
            artifact.directory, task, split, progress, plan.device
        )
    finite = np.isfinite(answers).all(axis=1)
    broken = int(np.sum(~finite))
    if broken:
        raise RarefyError(
            f"{artifact.manifest.stage.name}: the model outputs NaN for {broken} of {len(answers)} "
            "predictions; did its training diverge?"
        )
    groups = groups_of_blocks(task, split)
    main, *others = task.scorer.formulas(truth)
    scores = accuracy.metrics(task, (main, *others), answers, truth, name, groups)
    note = None
    if scores and scores[0].name == main:
        note = floor.below(task, interval(scores[0]), truth)
    return Scored(scores, note)


def interval(metric: Metric) -> Interval:
    """Return a metric with its interval; the value alone if it has none."""
    low = metric.value if metric.low is None else metric.low
    high = metric.value if metric.high is None else metric.high
    return Interval(metric.value, low, high)
