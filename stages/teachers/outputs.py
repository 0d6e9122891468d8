"""A teacher's outputs: computed once, stored on disk, reused by every epoch and after a kill."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model.batches import order_by_length
from rarefy.pipeline.stage import Context
from rarefy.pipeline.store import disk
from rarefy.pipeline.store.artifact import Artifact
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.tasks.embeddings import similarity
from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.common.resume import pause
from rarefy.stages.teachers import mapped
from rarefy.stages.training import run as training
from rarefy.stages.training.loop import collate, use_bf16
from rarefy.stages.training.parameters import TEACHER_BATCH, Loss, Row
from rarefy.stages.training.rows import lengths
from rarefy.stages.transfer import files as transfer_set

LOGITS, DONE = "logits.f32", "done.json"
SAVE_SECONDS = 5.0
TURNED = 2000
"""Rows, at most, by which a teacher's narrower outputs are turned towards a student's."""


@dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's raw outputs for every row."""

    logits: Tensor
    """Raw outputs (units, width) in fp32, memory-mapped."""
    firsts: NDArray[np.int64]
    """(rows + 1,), the first unit of each row, and the number of all units."""

    def raw(self, rows: Sequence[int]) -> Tensor:
        """Return the raw outputs of some rows' units, row after row: (units, width)."""
        units = [np.arange(self.firsts[row], self.firsts[row + 1]) for row in rows]
        return self.logits[np.concatenate(units)]


def answers(context: Context, artifact: Artifact, *splits: Split) -> TeacherOutputs:
    """Return a model's raw outputs for the rows of splits, by default the training rows."""
    network, tokenizer = training.open_network(context, artifact)
    if not splits:
        splits = (context.split("train"),)
    rows = training.labelled_rows(context, tokenizer, *splits)
    return outputs(context, network, tokenizer, rows)


def outputs(
    context: Context, teacher: Any, tokenizer: Any, rows: Sequence[Row], folder: str = "teacher"
) -> TeacherOutputs:
    """Run a teacher on all rows, and store its raw outputs.

    Uses eval mode, batches of similar length, and bf16 autocast if the device supports it. A
    killed run resumes after the last batches that were written.

    Args:
        context: of the stage that runs.
        teacher: the network.
        tokenizer: the teacher's.
        rows: as the teacher reads them.
        folder: where the files are, in ``context.work``.
    """
    directory = context.work / folder
    directory.mkdir(parents=True, exist_ok=True)
    firsts = _first_units(context.task, rows)
    teacher.to(context.device).eval()
    _run_batches(context, teacher, tokenizer, rows, firsts, directory)
    teacher.cpu()
    width = context.task.head.width(teacher)
    logits = mapped.opened(directory / LOGITS, int(firsts[-1]), width)
    return TeacherOutputs(torch.from_numpy(logits), firsts)


def stored_outputs(
    context: Context, artifact: Artifact, splits: Sequence[Split], rows: Sequence[Row]
) -> TeacherOutputs:
    """Return the outputs that a transfer set has for the rows of splits.

    Args:
        context: of the stage that runs.
        artifact: a transfer set with answers.
        splits: those whose rows are answered, in the order of ``rows``.
        rows: as the student reads them.

    Raises:
        ModelError: unless there is an output for each unit of the rows.
    """
    by_split = transfer_set.answers(artifact)
    chunks = _chunks(by_split[split.name] for split in splits)
    logits = torch.from_numpy(mapped.written(context.work, chunks))
    firsts = _first_units(context.task, rows)
    if firsts[-1] != len(logits):
        raise ModelError(
            f"the transfer set has {len(logits)} predictions for the {firsts[-1]} texts of the "
            "student; label them again"
        )
    return TeacherOutputs(logits, firsts)


def _chunks(outputs_of_splits: Iterable[Tensor]) -> Iterator[NDArray[np.float32]]:
    """Yield outputs (units, width) in fp32, some units at a time."""
    for raw in outputs_of_splits:
        for part in raw.split(training.CHUNK):
            yield part.float().numpy()


def _first_units(task: Task, rows: Sequence[Row]) -> NDArray[np.int64]:
    """Return the first unit of each row among all units, and their number (rows + 1,)."""
    if task.encoder.unit_per_row:
        return np.arange(len(rows) + 1)
    counts = [task.encoder.count_units(row) for row in rows]
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def goals(
    context: Context,
    student: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    *teacher_outputs: TeacherOutputs,
) -> list[TeacherOutputs]:
    """Return a teacher's outputs in the width of a student that is about to learn them.

    Narrower ones have no axes of their own; they are turned towards the student's own outputs for
    some of the rows.

    Args:
        context: of the stage that runs.
        student: the network before its training.
        tokenizer: the student's.
        rows: as the student reads them.
        *teacher_outputs: the first are those for ``rows``.
    """
    task, first = context.task, teacher_outputs[0]
    matrix = task.objective.projection(first.logits, task.head.width(student))
    if matrix is None:
        return list(teacher_outputs)
    if matrix.shape[1] < matrix.shape[0]:
        count = min(TURNED, len(rows))
        places = [number * len(rows) // count for number in range(count)]
        some = [rows[place] for place in places]
        student_outputs = outputs(context, student, tokenizer, some, folder="student")
        goal = first.raw(places).double() @ matrix
        matrix = matrix @ similarity.turning(goal, student_outputs.logits)
    fitted = []
    for teacher_output in teacher_outputs:
        logits = _multiply(context, teacher_output.logits, matrix)
        fitted.append(replace(teacher_output, logits=logits))
    return fitted


def _multiply(context: Context, logits: Tensor, matrix: Tensor) -> Tensor:
    """Return the product of outputs and a matrix, computed in fp64 and stored in a file."""
    parts = logits.split(training.CHUNK)
    products = ((part.double() @ matrix).float().numpy() for part in parts)
    return torch.from_numpy(mapped.written(context.work, products))


def _run_batches(
    context: Context,
    teacher: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    firsts: NDArray[np.int64],
    directory: Path,
) -> None:
    """Write the outputs to a folder, longest rows last; resume where an earlier run stopped."""
    order = order_by_length(lengths(rows).tolist())
    done = _finished_rows(directory)
    path = directory / LOGITS
    path.touch()
    saving_at = saved_at = time.monotonic()
    with path.open("r+b") as file:
        for start in range(done, len(order), TEACHER_BATCH):
            places = order[start : start + TEACHER_BATCH]
            batch = [rows[place] for place in places]
            logits = _forward(context, teacher, tokenizer, batch)
            _write_rows(file, firsts, places, logits)
            done = start + len(places)
            context.progress(done, len(order), "teacher answers")
            now, cost = time.monotonic(), saved_at - saving_at
            if now - saved_at > pause(SAVE_SECONDS, cost) or done == len(order):
                saving_at = now
                _save(directory, file, done)
                saved_at = time.monotonic()


def _forward(context: Context, teacher: Any, tokenizer: Any, rows: Sequence[Row]) -> Tensor:
    """Return raw outputs (units, width)."""
    padded = collate(rows, tokenizer)
    batch = {key: value.to(context.device) for key, value in padded.items()}
    bf16 = use_bf16(context.device, teacher)
    autocast = torch.autocast(context.device, torch.bfloat16, enabled=bf16)
    with torch.inference_mode(), autocast:
        raw: Tensor = context.task.head.outputs(teacher, batch).float().cpu()
    return raw


def _write_rows(
    file: IO[bytes], firsts: NDArray[np.int64], rows: Sequence[int], logits: Tensor
) -> None:
    """Write the outputs of some rows where they belong in a file of all rows.

    Args:
        file: open for writing anywhere.
        firsts: the first unit of each row among all units.
        rows: their indices.
        logits: (units, width), row after row.
    """
    starts = firsts[rows]
    counts = firsts[np.add(rows, 1)] - starts
    unit_bytes = logits.shape[1] * logits.itemsize
    for start, units in zip(starts.tolist(), logits.split(counts.tolist()), strict=True):
        file.seek(start * unit_bytes)
        file.write(units.numpy().tobytes())


def _save(directory: Path, file: IO[bytes], done: int) -> None:
    """Record that ``done`` rows are finished, after their outputs are on the disk."""
    file.flush()
    os.fsync(file.fileno())
    disk.write(directory / DONE, {"rows": done})


def _finished_rows(directory: Path) -> int:
    """Return how many rows an earlier run had finished."""
    path = directory / DONE
    return int(json.loads(path.read_text())["rows"]) if path.exists() else 0


def imitation(
    task: Task, teacher_outputs: TeacherOutputs, *, alpha: float, temperature: float
) -> Loss:
    """Return a student's loss: alpha · soft + (1 − alpha) · hard.

    ``row`` in a batch holds the rows' indices. Rows without a label have the soft loss only.

    Args:
        task: of the recipe.
        teacher_outputs: in the student's width.
        alpha: the share of the teacher's outputs in the loss.
        temperature: softens both outputs.
    """

    def loss(student: Any, batch: dict[str, Tensor]) -> Tensor:
        raw = task.head.outputs(student, batch)
        rows = batch["row"].tolist()
        goal = teacher_outputs.raw(rows).to(raw.device)
        soft = task.objective.imitation(raw, goal, temperature)
        hard = task.objective.loss(raw, batch, total=False)
        return alpha * soft + (1 - alpha) * hard

    return loss
