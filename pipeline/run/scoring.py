"""Score an artifact on labelled rows; scores are measured once and kept in the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.measure import machine
from pipeline.run.plan import READERS, Plan
from pipeline.stage import corpus
from pipeline.store.artifact import Artifact, Kind, Metric
from pipeline.terms.digests import value_sha256
from pipeline.terms.errors import DataError, RarefyError
from pipeline.terms.interval import Interval
from pipeline.terms.progress import Progress
from pipeline.terms.versions import versions

VERSION = 9
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
    known = plan.store.note(key)
    if known is None:
        with plan.store.lock(key, waiting):
            known = plan.store.note(key)
            if known is None:
                check(artifact)
                known = _measure(plan, artifact, progress, split)
                plan.store.keep_note(key, known)
    return Scored(tuple(Metric(**metric) for metric in known["metrics"]), known["note"])


def missing(plan: Plan, artifact: Artifact, split: str = "eval") -> bool:
    """Return whether an artifact, which is in the store, has yet to be scored."""
    return artifact.kind in SCORED and plan.store.note(_key(plan, artifact, split)) is None


def _key(plan: Plan, artifact: Artifact, split: str) -> str:
    """Return a key of all that a score depends on; ONNX kernels and rounding depend on the CPU."""
    recipe = plan.loaded.recipe
    target = recipe.targets[0]
    if artifact.kind is Kind.BUNDLE:
        on: Any = [target.provider, _threads(plan), machine.digest(machine.fingerprint())]
    else:
        on = plan.device
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


def _measure(plan: Plan, artifact: Artifact, progress: Progress, name: str) -> dict[str, Any]:
    import numpy as np

    from pipeline.measure import accuracy, floor

    split, task = plan.splits[name], plan.task
    truth = task.truth(split)
    if not truth:
        raise DataError(f"{split.reference}: the {name} split needs labels")
    if artifact.kind is Kind.BUNDLE:
        target = plan.loaded.recipe.targets[0]
        answers = accuracy.bundle_answers(
            artifact.directory,
            task,
            split,
            provider=target.provider,
            threads=_threads(plan),
            progress=progress,
        )
    else:
        answers = accuracy.checkpoint_answers(
            artifact.directory, task, split, progress, plan.device
        )
    broken = int(np.sum(~np.isfinite(answers).all(axis=1)))
    if broken:
        raise RarefyError(
            f"{artifact.manifest.stage.name}: the model outputs NaN for {broken} of {len(answers)} "
            "answers; did its training diverge?"
        )
    scores = accuracy.metrics(
        type(task), task.formulas(truth), answers, truth, name, task.groups(split)
    )
    main = scores[0]
    low = main.value if main.low is None else main.low
    high = main.value if main.high is None else main.high
    note = floor.below(type(task), Interval(main.value, low, high), truth)
    return {"metrics": [metric.model_dump() for metric in scores], "note": note}
