"""A teacher's outputs: computed once, kept on disk, reused by every epoch and after a kill."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.model.batches import order_by_length
from pipeline.stage import Context, losses, similarity
from pipeline.stage.split import Split
from pipeline.stage.tasks import Task
from pipeline.store import disk
from pipeline.store.artifact import Artifact
from pipeline.terms.errors import ModelError
from stages import mapped, training, transfer_set
from stages.aims import Aims
from stages.internals import Internal, captured, width
from stages.notes import pause
from stages.parameters import TEACHER_BATCH, Loss, Row
from stages.rows import lengths
from stages.schedule import Clock, Weight
from stages.trainer import collate, use_bf16

LOGITS, DONE = "logits.f32", "done.json"
SAVE_SECONDS = 5.0
TURNED = 2000
"""Rows, at most, by which a teacher's narrower outputs are turned towards a student's."""


@dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's raw outputs and hidden states for every row.

    ``logits`` (units × width, fp32) are memory-mapped; ``units[r]`` is row r's first unit. The
    states that ``stages.internals`` names, which have these ``widths``, are in a raw fp16 file,
    unpadded, row after row: for each token, state after state. They are read with plain reads
    rather than memory-mapped, because mapped pages would count as resident memory. ``starts[r]`` is
    row r's first token.
    """

    logits: Tensor
    units: NDArray[np.int64]
    starts: NDArray[np.int64]
    path: Path
    widths: tuple[int, ...]

    def raw(self, rows: Sequence[int]) -> Tensor:
        """Return the raw outputs of some rows' units, row after row: units × width."""
        return self.logits[_places(self.units, rows)]

    def hidden(self, rows: Sequence[int]) -> list[Tensor]:
        """Return each state, rows × tokens × its width, padded on the right with zeros, fp16."""
        lengths = [self.starts[row + 1] - self.starts[row] for row in rows]
        size = sum(self.widths)
        states = np.zeros((len(rows), max(lengths), size), np.float16)
        for at, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            flat = np.fromfile(
                self.path, np.float16, length * size, offset=self.starts[row] * size * 2
            )
            states[at, :length] = flat.reshape(length, size)
        return list(torch.from_numpy(states).split(self.widths, dim=-1))


def answers(context: Context, artifact: Artifact, *splits: Split) -> TeacherOutputs:
    """Return a model's raw outputs for the rows of splits, by default the training rows."""
    network, tokenizer = training.open_network(context, artifact)
    rows = training.labelled_rows(context, tokenizer, *(splits or [context.split("train")]))
    return outputs(context, network, tokenizer, rows)


def outputs(
    context: Context,
    teacher: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    states: Sequence[Internal] = (),
    batch_size: int = TEACHER_BATCH,
    folder: str = "teacher",
) -> TeacherOutputs:
    """Run the teacher on all rows, and keep its logits and its ``states`` inside.

    Uses eval mode, batches of similar length, and bf16 autocast if the device supports it. A
    killed run resumes after the last batches that were written to ``folder`` in ``context.work``.
    """
    directory = context.work / folder
    directory.mkdir(parents=True, exist_ok=True)
    task, firsts = context.task, _firsts(context.task, rows)
    result = TeacherOutputs(
        torch.empty(0),
        firsts,
        _starts(rows),
        directory / "hidden.f16",
        tuple(width(teacher, state) for state in states),
    )
    _answer(context, teacher.to(context.device).eval(), tokenizer, rows, states, batch_size, result)
    teacher.cpu()
    logits = mapped.opened(directory / LOGITS, int(firsts[-1]), task.width_of(teacher))
    return replace(result, logits=torch.from_numpy(logits))


def known(
    context: Context, artifact: Artifact, splits: Sequence[Split], rows: Sequence[Row]
) -> TeacherOutputs:
    """Return the answers that a transfer set has for the rows of splits, without hidden states.

    Raises ModelError unless there is one for each unit of the rows.
    """
    found, firsts = transfer_set.answers(artifact), _firsts(context.task, rows)
    parts = (part for split in splits for part in found[split.name].split(training.CHUNK))
    logits = mapped.written(context.work, (part.float().numpy() for part in parts))
    if firsts[-1] != len(logits):
        raise ModelError(
            f"the transfer set has {len(logits)} answers to the {firsts[-1]} texts of the student; "
            "label them again"
        )
    return TeacherOutputs(torch.from_numpy(logits), firsts, _starts(rows), Path(), ())


def goals(
    context: Context, student: Any, tokenizer: Any, rows: Sequence[Row], *given: TeacherOutputs
) -> list[TeacherOutputs]:
    """Return a teacher's outputs in the width of its student, who starts to learn from them.

    The first are those for ``rows``, as the student reads them. Narrower ones have no axes of their
    own; they are turned towards the student's own outputs for some of the rows.
    """
    task, first = context.task, given[0].logits
    matrix = task.fitting(first, task.width_of(student))
    if matrix is None:
        return list(given)
    if matrix.shape[1] < matrix.shape[0]:
        count = min(TURNED, len(rows))
        chosen = [at * len(rows) // count for at in range(count)]
        asked = [rows[row] for row in chosen]
        own = outputs(context, student, tokenizer, asked, folder="student").logits
        goal = given[0].raw(chosen).double() @ matrix
        matrix = matrix @ similarity.turning(goal, own)
    return [replace(each, logits=_product(context, each.logits, matrix)) for each in given]


def _product(context: Context, logits: Tensor, matrix: Tensor) -> Tensor:
    """Return the product of outputs and a matrix in fp64, by and by in a file."""
    parts = logits.split(training.CHUNK)
    written = mapped.written(
        context.work, ((part.double() @ matrix).float().numpy() for part in parts)
    )
    return torch.from_numpy(written)


def _firsts(task: Task, rows: Sequence[Row]) -> NDArray[np.int64]:
    """Return the first unit of each row, and the number of all units."""
    units = [1] * len(rows) if task.unit_per_row else [task.units(row) for row in rows]
    return np.concatenate([[0], np.cumsum(units)])


def _starts(rows: Sequence[Row]) -> NDArray[np.int64]:
    """Return the first token of each row, and the number of all tokens."""
    return np.concatenate([[0], np.cumsum(lengths(rows))])


def _answer(
    context: Context,
    teacher: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    states: Sequence[Internal],
    batch_size: int,
    result: TeacherOutputs,
) -> None:
    """Fill ``result`` batch by batch, longest rows last; resume where an earlier run stopped."""
    directory = result.path.parent
    order = np.array(order_by_length(lengths(rows).tolist()))
    done = _resume(directory)
    paths = (directory / LOGITS, result.path)
    for path in paths:
        path.touch()
    saving_at = saved_at = time.monotonic()
    with paths[0].open("r+b") as answers, paths[1].open("r+b") as inside:
        for start in range(done, len(order), batch_size):
            chosen = order[start : start + batch_size]
            asked = [rows[row] for row in chosen]
            logits, hidden = _forward(context, teacher, tokenizer, asked, states)
            counts = (result.units[chosen + 1] - result.units[chosen]).tolist()
            for row, own, found in zip(chosen, logits.split(counts), hidden, strict=True):
                answers.seek(result.units[row] * logits.shape[1] * 4)
                answers.write(own.numpy().tobytes())
                first, end = result.starts[row], result.starts[row + 1]
                inside.seek(first * sum(result.widths) * 2)
                inside.write(found[: end - first].tobytes())
            done = start + len(chosen)
            context.progress(done, len(order), "teacher answers")
            now, cost = time.monotonic(), saved_at - saving_at
            if now - saved_at > pause(SAVE_SECONDS, cost) or done == len(order):
                saving_at = now
                _save(directory, (answers, inside), done)
                saved_at = time.monotonic()


def _forward(
    context: Context,
    teacher: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    states: Sequence[Internal],
) -> tuple[Tensor, np.ndarray]:
    """Return raw outputs (units × width) and states inside (rows × tokens × their widths)."""
    batch = {k: v.to(context.device) for k, v in collate(rows, tokenizer).items()}
    with (
        torch.inference_mode(),
        torch.autocast(context.device, torch.bfloat16, enabled=use_bf16(context.device, teacher)),
        captured(teacher, states) as found,
    ):
        raw = context.task.outputs(teacher, batch).float().cpu()
    if not states:
        return raw, np.empty((len(rows), 0, 0), np.float16)
    return raw, torch.cat(found.all(states), dim=-1).to(torch.float16).cpu().numpy()


def _places(firsts: NDArray[np.int64], rows: Sequence[int]) -> NDArray[np.int64]:
    """Return the places of some rows' units, row after row."""
    return np.concatenate([np.arange(firsts[row], firsts[row + 1]) for row in rows])


def _save(directory: Path, files: Sequence[IO[bytes]], done: int) -> None:
    for file in files:
        file.flush()
        os.fsync(file.fileno())  # before what says that these rows are there
    disk.write(directory / DONE, {"rows": done})


def _resume(directory: Path) -> int:
    """Return how many rows an earlier run had finished."""
    path = directory / DONE
    return int(json.loads(path.read_text())["rows"]) if path.exists() else 0


def imitation(
    task: Task,
    answers: TeacherOutputs,
    *,
    alpha: Weight,
    temperature: float,
    squared: bool = False,
    aims: Aims | None = None,
    clock: Clock | None = None,
) -> Loss:
    """Return a student's loss function: alpha · soft + (1 − alpha) · hard + that of ``aims``.

    ``row`` in a batch holds the rows' indices. Rows without a label have the soft loss only. With
    ``squared``, raw outputs are compared by their squared difference instead of softened.
    Weights are as the ``clock`` says; without one, as at the end of the training.
    """
    aims, clock = aims or Aims(), clock or Clock()

    def loss(student: Any, batch: dict[str, Tensor]) -> Tensor:
        rows = batch["row"].tolist()
        with captured(student, aims.own) as found:
            raw = task.outputs(student, batch)
        goal = answers.raw(rows).to(raw.device)
        if squared:
            both = raw.isfinite().all(-1) & goal.isfinite().all(-1)  # a word may be cut off
            soft = losses.answers(raw[both], goal[both]) if both.any() else 0 * raw[~both].nansum()
        else:
            soft = task.imitation(raw, goal, temperature)
        share = clock.now(alpha)
        total = share * soft + (1 - share) * task.loss(raw, batch, total=False)
        alike = [at for at, row in enumerate(rows) if aims.same[row]] if aims.aims else []
        if alike:
            kept = [each.to(raw.device) for each in answers.hidden([rows[at] for at in alike])]
            mask = batch["attention_mask"][alike, : kept[0].shape[1]]
            total = total + aims.loss(student, found, kept, alike, mask, clock)
        return total

    return loss
