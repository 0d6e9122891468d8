"""What the steps of a plan will need of this machine, and whether it can give it.

Disk and memory come from the stages' own formulas, times from what the store knows of earlier runs.
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.model import shape as shapes
from pipeline.model.shape import Shape
from pipeline.run.plan import MODEL, Plan, Planned
from pipeline.stage import Stage
from pipeline.stage.resources import UNKNOWN_LENGTH, Resources, Span, Workload, exactly
from pipeline.store.artifact import Artifact, Kind
from pipeline.terms.errors import ProviderError, RarefyError
from pipeline.terms.wording import quantity


@dataclass(frozen=True)
class Needed:
    """What a step needs; ``seconds`` is None if no earlier run tells."""

    resources: Resources
    seconds: float | None = None


def of(plan: Plan, steps: list[Planned]) -> dict[str, Needed]:
    """Return what each step needs that is still to run, by its id."""
    found: dict[str, Needed] = {}
    known: dict[str, Shape | None] = {}
    kinds = {step.id: step.kind for step in steps}
    for step in steps:
        if step.artifact is not None:
            known[step.id] = shapes.of_manifest(step.artifact.manifest.model)
            continue
        work = _workload(plan, step, known)
        resources = _resources(step, work) if work else Resources()
        given = None if step.id == MODEL else kinds[plan.loaded.step(step.id).input]
        seconds = _seconds(plan, step.stage, given, work, resources) if work else None
        found[step.id] = Needed(resources, seconds)
        # A stage that says nothing is taken to give a model that is no larger than its input.
        known[step.id] = resources.shape or (work.shape.shrunk(0) if work else None)
    return found


def _resources(step: Planned, work: Workload) -> Resources:
    """Return what a stage says of its needs. Raises RarefyError that names the step if it fails."""
    try:
        return step.stage.resources(work)
    except RarefyError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RarefyError(f"{step.id}: resources: {reason}") from error


def check(plan: Plan, steps: list[Planned], needed: dict[str, Needed]) -> None:
    """Raise ProviderError if a step surely does not fit the store's disk or the machine's memory.

    What an interrupted step has written already counts as free. Of a step on a GPU the memory is
    not checked: most of it is the device's.
    """
    free, total = free_disk(plan.store.root), total_memory()
    for step in steps:
        resources = needed[step.id].resources if step.id in needed else Resources()
        disk, memory = resources.disk or Span(), resources.memory or Span()
        there = free + _written(plan, step)
        if disk.least > there:
            raise ProviderError(
                f"{step.id}: needs at least {quantity(disk.least, 'B')} on the disk of "
                f"{plan.store.root}, and {quantity(there, 'B')} are free; `rarefy artifact gc` "
                "makes room, --home names another place"
            )
        if plan.device == "cpu" and memory.least > total:
            raise ProviderError(
                f"{step.id}: needs at least {quantity(memory.least, 'B')} of memory, and this "
                f"machine has {quantity(total, 'B')}; take a smaller model or another machine"
            )


def free_disk(directory: Path) -> int:
    """Return the bytes that are free on the disk of a directory; a disk of no size tells none."""
    usage = shutil.disk_usage(directory)
    return usage.free if usage.total else sys.maxsize  # some network disks do not say


def total_memory() -> int:
    """Return the bytes of memory of this machine, swap included: slow is not impossible."""
    return int(psutil.virtual_memory().total + psutil.swap_memory().total)


def _written(plan: Plan, step: Planned) -> int:
    """Return the bytes that an interrupted run of a step has left in its work directory."""
    if step.fingerprint is None or step.cached:
        return 0
    left = plan.store.root / "work" / step.fingerprint
    return sum(path.stat().st_size for path in left.rglob("*") if path.is_file())


def _workload(plan: Plan, step: Planned, known: dict[str, Shape | None]) -> Workload | None:
    """Return what is known of a step's work; None if its input's shape is not."""
    if step.id == MODEL:
        shape = shapes.of_directory(plan.located.directory, plan.located.files)
        references: dict[str, Shape | None] = {}
    else:
        shape = known.get(plan.loaded.step(step.id).input)
        references = {name: known.get(name) for role, name in plan.parents(step.id)[:-1]}
    if shape is None:
        return None
    rows, longest = plan.summary.rows, plan.loaded.recipe.data.max_length
    lengths = plan.row_lengths
    between = Span(min(UNKNOWN_LENGTH, longest), longest)
    return Workload(
        shape=shape,
        references={name: found for name, found in references.items() if found is not None},
        rows=rows,
        tokens={name: between * count for name, count in rows.items()}
        | {name: exactly(count) for name, count in lengths.tokens.items()},
        longest=dict.fromkeys(rows, longest) | lengths.longest,
        labels=len(plan.labels),
        providers=len({target.provider for target in plan.loaded.recipe.targets}),
        base=plan.loaded.base,
    )


def _seconds(
    plan: Plan, stage: Stage, given: Kind | None, work: Workload, resources: Resources
) -> float | None:
    """Return the time of the stage's newest run here on such an input, scaled by the effort."""
    for artifact, parents in _made_here(plan, stage):
        took = artifact.run_record().get("seconds")
        source = parents.get("input")
        if took is None or (source.kind if source else None) is not given:
            continue
        try:
            before = _effort_of(plan, artifact, source, parents, type(stage))
        except Exception:  # noqa: S112
            continue  # made by another version of the stage, from what is gone, or by a plug-in
        now = _effort(stage, work, resources)
        if before:
            return float(took) * now / before
    return None


def _made_here(plan: Plan, stage: Stage) -> Iterator[tuple[Artifact, dict[str, Artifact]]]:
    """Yield what the stage made on this machine, the newest first, with its parents by role."""
    root = plan.store.root / "artifacts" / "sha256"
    mark = f'"name":"{stage.name}"'.encode()
    for directory in sorted(root.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            if mark not in (directory / "manifest.json").read_bytes():
                continue
            artifact = plan.store.open(directory.name)
            parents = {p.role: plan.store.open(p.digest) for p in artifact.manifest.parents}
            run = artifact.run_record()
        except (OSError, ValueError, RarefyError):
            continue
        here = (run.get("host"), run.get("device"), run.get("threads"))
        wanted = (platform.node(), plan.device, plan.threads)
        same = artifact.manifest.stage.name == stage.name and here == wanted
        if same and not run.get("resumed"):  # then its seconds are not those of the whole work
            yield artifact, parents


def _effort_of(
    plan: Plan,
    artifact: Artifact,
    source: Artifact | None,
    parents: dict[str, Artifact],
    kind: type[Stage],
) -> float | None:
    """Return the effort of an earlier run; None if its input's shape is not known."""
    manifest = artifact.manifest
    stage = kind.model_validate(manifest.stage.parameters)
    shape = shapes.of_manifest((source or artifact).manifest.model)
    if shape is None:
        return None
    references = {
        name: shapes.of_manifest(parents[role].manifest.model)
        for role, name in stage.references().items()
        if role in parents
    }
    work = Workload(
        shape=shape,
        references={name: found for name, found in references.items() if found is not None},
        rows={record.split: record.rows for record in manifest.data},
        labels=len(manifest.model.get("labels", [])),
        base=plan.loaded.base,
    )
    return _effort(stage, work, stage.resources(work))


def _effort(stage: Stage, work: Workload, resources: Resources) -> float:
    """Return the stage's own measure; for one that has none rows × epochs."""
    if resources.effort is not None:
        return resources.effort
    epochs = getattr(stage, "epochs", 1)
    counted = epochs if isinstance(epochs, int | float) else 1  # a plug-in's may be anything
    return float(max(1, work.rows_of(stage.reads)) * counted)
