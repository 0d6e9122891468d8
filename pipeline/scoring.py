"""Scores: an artifact's metrics on the eval split, measured once for these bytes and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.artifact import Artifact, Kind, Metric, canonical_json
from pipeline.errors import DataError, RarefyError
from pipeline.measure import machine
from pipeline.versions import distribution_version

if TYPE_CHECKING:
    from pipeline.engine import Run

VERSION = 1
SCORED = (Kind.CHECKPOINT, Kind.ADAPTER, Kind.BUNDLE)

Progress = Callable[[float, float, str], None]


def score(
    run: Run, artifact: Artifact, progress: Progress, waiting: Callable[[], None]
) -> tuple[Metric, ...]:
    """Return the metrics of an artifact; empty for a kind that has no answers.

    Measured only where the store has no note of it. Raises IntegrityError where the artifact's
    bytes are damaged, RarefyError where the model answers NaN.
    """
    if artifact.kind not in SCORED:
        return ()
    key = _key(run, artifact)
    known = run.store.note(key)
    if known is None:
        with run.store.lock(key, waiting):
            known = run.store.note(key)
            if known is None:
                run.check(artifact)
                known = _measure(run, artifact, progress)
                run.store.keep_note(key, known)
    return tuple(Metric(**metric) for metric in known["metrics"])


def _key(run: Run, artifact: Artifact) -> str:
    """Name all that a score depends on. A bundle's kernels depend on the CPU, and may round so."""
    recipe = run.loaded.recipe
    target = recipe.targets[0]
    if artifact.kind is Kind.BUNDLE:
        on: Any = [target.provider, target.threads, machine.digest(machine.fingerprint())]
    else:
        on = run.device
    value = {
        "version": VERSION,
        "artifact": artifact.digest,
        "eval": run.sources["eval"].sha256,
        "reading": run.reading,
        "task": recipe.task,
        "labels": run.labels,
        "seed": recipe.seed,
        "libraries": {
            name: distribution_version(name) for name in ("torch", "transformers", "onnxruntime")
        },
        "on": on,
    }
    return f"score-{hashlib.sha256(canonical_json(value)).hexdigest()}"


def _measure(run: Run, artifact: Artifact, progress: Progress) -> dict[str, Any]:
    import numpy as np

    from pipeline.measure import accuracy

    split = run.splits["eval"]
    if split.labels is None:
        raise DataError(f"{split.reference}: the eval split needs labels")
    if artifact.kind is Kind.BUNDLE:
        target = run.loaded.recipe.targets[0]
        probabilities = accuracy.bundle_probabilities(
            artifact.directory,
            split,
            provider=target.provider,
            threads=target.threads,
            progress=progress,
        )
    else:
        probabilities = accuracy.checkpoint_probabilities(
            artifact.directory, run.task, split, progress, run.device
        )
    broken = int(np.sum(~np.isfinite(probabilities).all(axis=1)))
    if broken:
        raise RarefyError(
            f"{artifact.manifest.stage.name}: the model answers NaN on {broken} of {len(split)} "
            "eval rows; did its training diverge?"
        )
    found = accuracy.metrics(run.task, probabilities, split.labels, "eval", run.loaded.recipe.seed)
    return {"metrics": [metric.model_dump() for metric in found]}
