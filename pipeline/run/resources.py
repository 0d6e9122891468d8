"""Estimate what the steps of a plan need, and check that this machine has it.

Disk and memory come from the stages' own formulas, times from earlier runs in the store.
"""

from __future__ import annotations

import contextlib
import functools
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.measure import cgroups
from pipeline.model import shape as shapes
from pipeline.model.shape import Shape
from pipeline.recipe.recipe import MODEL
from pipeline.run import scoring
from pipeline.run.plan import Plan, Planned
from pipeline.stage import Stage
from pipeline.stage.resources import (
    TEXTS,
    TRANSFER,
    UNKNOWN_LENGTH,
    Resources,
    Span,
    Workload,
    exactly,
)
from pipeline.store import disk
from pipeline.store.artifact import MANIFEST, Artifact, Kind
from pipeline.terms.errors import ProviderError, RarefyError
from pipeline.terms.wording import quantity


@dataclass(frozen=True)
class Needed:
    """What a step needs; ``seconds`` is None if no earlier run can be used for an estimate.

    They include scoring what the step makes, if a model of its kind was scored here before.
    """

    resources: Resources
    seconds: float | None = None


def of(plan: Plan, steps: list[Planned], *, times: bool = True) -> dict[str, Needed]:
    """Return what each step that has yet to run needs, by its id.

    ``times``: also for how long, for which the store's artifacts are read.
    """
    found: dict[str, Needed] = {}
    known: dict[str, Shape | None] = {}
    texts: dict[str, int] = {}
    kinds = {step.id: step.kind for step in steps}
    manifests = functools.cache(lambda: _manifests(plan))  # of thousands; read if a step must run
    for step in steps:
        if step.artifact is not None:
            known[step.id] = shapes.of_manifest(step.artifact.manifest.model)
            texts |= _made_texts(step.id, step.artifact)
            continue
        work = _workload(plan, step, known, texts)
        resources = _resources(step, work) if work else Resources()
        given = next((kinds[n] for role, n in plan.parents(step.id) if role == "input"), None)
        seconds = None
        if work and times:
            seconds = _seconds(plan, step.stage, given, work, resources, manifests())
        # Assume that a stage without an estimate makes a model no larger than its input.
        known[step.id] = resources.shape or (work.shape.shrunk(0) if work else None)
        if seconds is not None:
            seconds += scoring.seconds(plan, step.kind, known[step.id]) or 0.0
        found[step.id] = Needed(resources, seconds)
        if resources.texts is not None:
            texts[step.id] = resources.texts
    return found


def of_scoring(plan: Plan, steps: list[Planned]) -> dict[str, Needed]:
    """Return the time of each cached step that has yet to be scored, by its id.

    For example, because the eval split is another one now.
    """
    found: dict[str, Needed] = {}
    for step in steps:
        if step.artifact is not None and scoring.missing(plan, step.artifact):
            shape = shapes.of_manifest(step.artifact.manifest.model)
            found[step.id] = Needed(Resources(), scoring.seconds(plan, step.kind, shape))
    return found


def _resources(step: Planned, work: Workload) -> Resources:
    """Return the stage's own estimate. Raises RarefyError, naming the step, if the stage fails."""
    try:
        return step.stage.resources(work)
    except RarefyError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RarefyError(f"{step.id}: resources: {reason}") from error


def check(plan: Plan, steps: list[Planned], needed: dict[str, Needed]) -> None:
    """Raise ProviderError if a step certainly exceeds the store's disk or the machine's memory.

    Space that an interrupted run of the step already uses counts as free. Memory is not checked
    for a GPU run, because most of it is on the device.
    """
    free, total = free_disk(plan.store.root), total_memory()
    for step in steps:
        resources = needed[step.id].resources if step.id in needed else Resources()
        space, memory = resources.disk or Span(), resources.memory or Span()
        there = free + _written(plan, step)
        if space.least > there:
            raise ProviderError(
                f"{step.id}: needs at least {quantity(space.least, 'B')} on the disk of "
                f"{plan.store.root}, but only {quantity(there, 'B')} are free; free space with "
                "`rarefy artifact gc`, or choose another folder with --home"
            )
        if plan.device == "cpu" and memory.least > total:
            raise ProviderError(
                f"{step.id}: needs at least {quantity(memory.least, 'B')} of memory, but this "
                f"machine has {quantity(total, 'B')}; use a smaller model or a larger machine"
            )


def free_disk(directory: Path) -> int:
    """Return the free bytes on a directory's disk; ``sys.maxsize`` if the disk reports no size."""
    usage = shutil.disk_usage(directory)
    return usage.free if usage.total else sys.maxsize  # some network disks report zero


def total_memory() -> int:
    """Return this machine's or container's memory in bytes, with swap: slow is not impossible."""
    total, limit = psutil.virtual_memory().total, cgroups.memory()
    return int(min(total, limit or total) + psutil.swap_memory().total)


def _written(plan: Plan, step: Planned) -> int:
    """Return the bytes that an interrupted run of a step left in its work directory."""
    if step.fingerprint is None or step.cached:
        return 0
    left = plan.store.root / "work" / step.fingerprint
    return disk.size(left)


def _made_texts(name: str, artifact: Artifact | None) -> dict[str, int]:
    """Return the number of an artifact's texts under a name; empty if it is no transfer set."""
    count = artifact.manifest.model.get(TEXTS) if artifact else None
    return {} if count is None else {name: int(count)}


def _workload(
    plan: Plan, step: Planned, known: dict[str, Shape | None], made: dict[str, int]
) -> Workload | None:
    """Return the size of a step's work; None if the shape of its input is unknown.

    ``made``: the number of texts of each transfer set, by the id of its step.
    """
    if step.id == MODEL:
        shape = shapes.of_directory(plan.located.directory, plan.located.files)
        references: dict[str, Shape | None] = {}
    else:
        shape = known.get(plan.loaded.step(step.id).input)
        references = {n: known.get(n) for role, n in plan.parents(step.id) if role != "input"}
    if shape is None:
        return None
    rows, longest = dict(plan.summary.rows), plan.loaded.recipe.data.max_length
    transfer = step.stage.references().get(TRANSFER)
    if transfer in made:
        rows[TRANSFER] = made[str(transfer)]
    lengths, task = plan.row_lengths, plan.task_class
    together = task.together(plan.loaded.recipe.data)
    texts = {name: count * together for name, count in rows.items()} | lengths.texts
    between = Span(min(UNKNOWN_LENGTH, longest), longest)
    widths = [one.hidden for one in (shape, *references.values()) if one is not None]
    return Workload(
        shape=shape,
        references={name: found for name, found in references.items() if found is not None},
        rows=rows,
        texts=texts,
        tokens={name: between * count for name, count in texts.items()}
        | {name: exactly(count) for name, count in lengths.tokens.items()},
        longest=dict.fromkeys(rows, longest) | lengths.longest,
        together=together,
        labels=min(widths) if task.body_only else max(1, len(plan.labels)),
        providers=len({target.provider for target in plan.loaded.recipe.targets}),
        base=plan.loaded.base,
    )


def _seconds(
    plan: Plan,
    stage: Stage,
    given: Kind | None,
    work: Workload,
    resources: Resources,
    manifests: dict[str, bytes],
) -> float | None:
    """Return the estimated seconds; None if the stage has not run here on such an input.

    The estimate is the time of the stage's newest run, scaled by the ratio of the efforts.
    """
    for artifact, parents in _made_here(plan, stage, manifests):
        took = artifact.run_record().get("seconds")
        source = dict(parents).get("input")
        if took is None or (source.kind if source else None) is not given:
            continue
        try:
            before = _effort_of(plan, artifact, parents, type(stage), work)
        except Exception:  # noqa: S112
            continue  # made by another version of the stage, inputs gone, or a plug-in fails
        now = _effort(stage, work, resources)
        if before:
            return float(took) * now / before
    return None


def _manifests(plan: Plan) -> dict[str, bytes]:
    """Return digest -> manifest of the store's artifacts, newest first; read once for all steps."""
    root = plan.store.root / "artifacts" / "sha256"
    found = {}
    for directory in sorted(root.iterdir(), key=disk.changed, reverse=True):
        with contextlib.suppress(OSError):
            found[directory.name] = (directory / MANIFEST).read_bytes()
    return found


def _made_here(
    plan: Plan, stage: Stage, manifests: dict[str, bytes]
) -> Iterator[tuple[Artifact, list[tuple[str, Artifact]]]]:
    """Yield the stage's artifacts made on this machine, newest first, with roles and parents."""
    mark = f'"name":"{stage.name}"'.encode()
    for digest, manifest in manifests.items():
        if mark not in manifest:
            continue
        try:
            artifact = plan.store.open(digest)
            parents = [(p.role, plan.store.open(p.digest)) for p in artifact.manifest.parents]
            run = artifact.run_record()
        except (OSError, ValueError, RarefyError):
            continue
        here = (run.get("host"), run.get("device"), run.get("threads"))
        wanted = (platform.node(), plan.device, plan.threads)
        same = artifact.manifest.stage.name == stage.name and here == wanted
        if same and not run.get("resumed"):  # a resumed run recorded only part of the time
            yield artifact, parents


def _effort_of(
    plan: Plan,
    artifact: Artifact,
    parents: list[tuple[str, Artifact]],
    kind: type[Stage],
    now: Workload,
) -> float | None:
    """Return the effort of an earlier run; None if the shape of its input is unknown."""
    manifest, by_role = artifact.manifest, dict(parents)
    stage = kind.model_validate(manifest.stage.parameters)
    shape: Shape | None = now.shape  # of no weight if the input is not read
    if kind.reads_input:
        shape = shapes.of_manifest(by_role.get("input", artifact).manifest.model)
    if shape is None:
        return None
    names = stage.references()
    references = {  # those that the stage does not name share one role
        names.get(role, parent.digest): shapes.of_manifest(parent.manifest.model)
        for role, parent in parents
        if role != "input"
    }
    work = Workload(
        shape=shape,
        references={name: found for name, found in references.items() if found is not None},
        rows={record.split: record.rows for record in manifest.data}
        | _made_texts(TRANSFER, by_role.get(TRANSFER)),
        texts=artifact.run_record().get("texts", {}),
        labels=len(manifest.model.get("labels", [])),
        base=plan.loaded.base,
    )
    return _effort(stage, work, stage.resources(work))


def _effort(stage: Stage, work: Workload, resources: Resources) -> float:
    """Return the stage's own measure of effort; texts × epochs if it has none."""
    if resources.effort is not None:
        return resources.effort
    epochs = getattr(stage, "epochs", 1)
    counted = epochs if isinstance(epochs, int | float) else 1  # a plug-in's may be anything
    return float(max(1, work.texts_of(stage.reads)) * counted)
