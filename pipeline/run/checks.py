"""What a run lacks, said before it starts: room on this machine, and rows in its eval split."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from rarefy.pipeline.measure import machine, stopping
from rarefy.pipeline.model.runtime import onnx_runtime, providers
from rarefy.pipeline.recipe.recipe import MODEL
from rarefy.pipeline.run import scoring
from rarefy.pipeline.run.plan.plan import Plan, Planned
from rarefy.pipeline.stage import Stage
from rarefy.pipeline.store.artifact import MODELS, Artifact, Kind
from rarefy.pipeline.terms.errors import ProviderError
from rarefy.pipeline.terms.metrics import known
from rarefy.pipeline.terms.wording import quantity
from rarefy.pipeline.verdict import power
from rarefy.pipeline.verdict.power import CellNeeds, Need

if TYPE_CHECKING:
    from rarefy.pipeline.measure.measurements import Measurements

COPIES: Final = 4
"""What AdamW holds of each weight: itself, its gradient and two moments."""
MEASURED = (Kind.BUNDLE, Kind.REPORT)
"""What is made for the targets, and checked by running it."""


def check_size(plan: Plan, steps: Iterable[Planned]) -> None:
    """Raise ProviderError if a step that has yet to run certainly exceeds this machine.

    Only the sizes of weights count, where they are known: those of the recipe's model, of an
    artifact in the store, and of what a stage makes that trains all weights. A step that makes a
    model holds the weights of its input in memory, four times if it trains them all. Memory is not
    checked for a GPU run, because most of it is on the device.
    """
    free, total = free_disk(plan.store.root), total_memory()
    sizes: dict[str, int] = {}
    for step in steps:
        if step.artifact is not None:
            sizes[step.id] = _stored_weights(step.artifact)
            continue
        memory = _input_weights(plan, step, sizes)
        disk = 0
        if step.id == MODEL or step.stage.policy.trains_all_weights:
            disk = memory
        if step.stage.policy.trains_all_weights:
            memory *= COPIES
        _check_disk(plan, step, disk, free)
        if plan.device == "cpu":
            _check_memory(step, memory, total)
        sizes[step.id] = disk


def free_disk(directory: Path) -> int:
    """Return the free bytes on a directory's disk; ``sys.maxsize`` if the disk reports no size."""
    usage = shutil.disk_usage(directory)
    if not usage.total:  # some network disks report zero
        return sys.maxsize
    return usage.free


def total_memory() -> int:
    """Return this machine's or container's memory in bytes, with swap: slow is not impossible."""
    total = psutil.virtual_memory().total
    limit = machine.memory_limit()
    if limit is not None:
        total = min(total, limit)
    return int(total + psutil.swap_memory().total)


def _input_weights(plan: Plan, step: Planned, sizes: dict[str, int]) -> int:
    """Return the bytes of the weights that a step certainly loads; 0 if they are not known.

    ``sizes``: the bytes of the weights of earlier steps, by id.
    """
    if step.id == MODEL:
        return sum(path.stat().st_size for path in plan.located.weights)
    if step.kind not in MODELS or not step.stage.policy.reads_input:
        return 0
    return sizes.get(plan.loaded.step(step.id).input, 0)


def _stored_weights(artifact: Artifact) -> int:
    """Return the bytes of an artifact's weight files."""
    return sum(file.size for file in artifact.manifest.files if file.role == "weights")


def _check_disk(plan: Plan, step: Planned, needed: int, free: int) -> None:
    if needed > free:
        raise ProviderError(
            f"{step.id}: writes at least {quantity(needed, 'B')} to the disk of "
            f"{plan.store.root}, but only {quantity(free, 'B')} are free; free space with "
            "`rarefy artifact gc`, or choose another folder with --home"
        )


def _check_memory(step: Planned, needed: int, total: int) -> None:
    if needed > total:
        raise ProviderError(
            f"{step.id}: needs at least {quantity(needed, 'B')} of memory, but this machine has "
            f"{quantity(total, 'B')}; use a smaller model or a larger machine"
        )


def check_runtimes(plan: Plan, steps: list[Planned], *, scored: bool = True) -> None:
    """Raise ProviderError if this machine lacks what a step or a target runs on.

    ``scored``: whether steps are scored on eval, which branches of a sweep are not.
    """
    for step in steps:
        if step.artifact is None or (scored and scoring.missing(plan, step.artifact)):
            check_device(plan.device, step.stage)
    if any("onnxruntime" in step.stage.libraries for step in steps):
        onnx_runtime.check_installed()
    if any(step.kind in MEASURED for step in steps):
        for target in plan.loaded.recipe.targets:
            providers.check_available(target.provider)


def check_device(device: str, stage: Stage) -> None:
    """Raise ProviderError if a stage would train or answer on a device that is not there.

    Bundles are made and measured on their targets, whatever the device.
    """
    if device == "cuda" and Kind.BUNDLE not in (stage.produces, *stage.consumes):
        import torch

        if not torch.cuda.is_available():
            raise ProviderError("torch finds no CUDA device; use --device cpu")


def lacking(plan: Plan, steps: list[Planned]) -> list[str]:
    """Return why a run would be refused here; empty if it would not be.

    A plan may be for another machine, so this is a warning there.
    """
    try:
        check_runtimes(plan, steps)
    except ProviderError as error:
        return [f"{error}; this machine cannot run the recipe"]
    return []


def needed_rows(plan: Plan, earlier: Measurements | None) -> list[Need | CellNeeds]:
    """Return how many eval rows each margin on a score needs, and how many there are.

    Those of labels and slices come last.

    ``earlier``: the last run's measurements, which show how often models differ.
    """
    rows = plan.summary.different
    # Of rows in groups, nobody knows how many would do before a run has told.
    independent = plan.loaded.recipe.data.group is None
    counted = plan.unbound_task.scorer.counted and independent
    summary = plan.summary
    of_all = power.needs(plan.budgets, rows, earlier, counted=counted)
    # Copies of rows are in one group, and the cells count every row.
    independent = independent and rows == summary.rows["eval"]
    of_cells = power.cell_needs(
        plan.budgets, summary.marked, summary.slices, earlier, independent=independent
    )
    return [*of_all, *of_cells]


def time_notes(plan: Plan, earlier: Measurements | None, history: Path) -> list[str]:
    """Return what a session of latencies may not tell of the budgets; see ``power.time_notes``.

    ``earlier``: the last run's measurements. ``history``: the file of earlier verdicts.
    """
    stages = [step.stage for step in plan.steps() if step.stage.name == "validate"]
    if not stages:
        return []
    processes = getattr(stages[-1], "processes", 0)
    sessions = {}
    if earlier is not None:
        from rarefy.pipeline.verdict import between_sessions

        sessions = between_sessions.of_history(history, earlier)
    notes = power.time_notes(plan.budgets, processes, earlier, sessions)
    if any(known(budget.metric).kind in ("latency", "speedup") for budget in plan.budgets):
        most = stopping.PATIENCE * getattr(stages[-1], "seconds", 0)
        notes.append(f"near a limit, calls are timed for up to {most:g} s on each target")
    return notes
