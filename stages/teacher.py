"""A teacher's outputs: computed once, stored on disk, reused by every epoch and after a kill."""

from __future__ import annotations

import itertools
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

from pipeline.stage import Context, losses, similarity
from pipeline.stage.split import Split
from pipeline.stage.tasks import Task
from pipeline.store import disk
from pipeline.store.artifact import Artifact
from pipeline.terms.errors import ModelError
from stages import mapped, training, transfer_set
from stages.aims import StateLoss
from stages.internals import captured_states
from stages.notes import pause
from stages.parameters import TEACHER_BATCH, Loss, Row
from stages.rows import lengths
from stages.trainer import collate, use_bf16

LOGITS, HIDDEN, DONE = "logits.f32", "hidden.f16", "done.json"
SAVE_SECONDS = 5.0
TURNED = 2000
"""Rows, at most, by which a teacher's narrower outputs are turned towards a student's."""


@dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's raw outputs and hidden states for every row.

    The hidden states are in a raw fp16 file, unpadded, row after row: for each token, state after
    state. They are read with plain reads rather than memory-mapped, because mapped pages would
    count as resident memory.
    """

    logits: Tensor
    """Raw outputs (units, width) in fp32, memory-mapped."""
    units: NDArray[np.int64]
    """The first unit of each row, and the number of all units."""
    starts: NDArray[np.int64]
    """The first token of each row, and the number of all tokens."""
    path: Path
    """The file of hidden states."""
    states: int = 0
    """The number of hidden states of each token."""
    width: int = 0
    """The width of each of them."""

    def raw(self, rows: Sequence[int]) -> Tensor:
        """Return the raw outputs of some rows' units, row after row: (units, width)."""
        places = [np.arange(self.units[row], self.units[row + 1]) for row in rows]
        return self.logits[np.concatenate(places)]

    def hidden(self, rows: Sequence[int]) -> list[Tensor]:
        """Return each state in fp16 (rows, tokens, width), padded on the right with zeros."""
        counts = [self.starts[row + 1] - self.starts[row] for row in rows]
        size = self.states * self.width
        padded = np.zeros((len(rows), max(counts), size), np.float16)
        for place, (row, count) in enumerate(zip(rows, counts, strict=True)):
            offset = self.starts[row] * size * 2
            flat = np.fromfile(self.path, np.float16, count * size, offset=offset)
            padded[place, :count] = flat.reshape(count, size)
        return list(torch.from_numpy(padded).split(self.width, dim=-1))


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
    layers: Sequence[int] = (),
    batch_size: int = TEACHER_BATCH,
    folder: str = "teacher",
) -> TeacherOutputs:
    """Run a teacher on all rows, and store its logits and the hidden states of some layers.

    Uses eval mode, batches of similar length, and bf16 autocast if the device supports it. A
    killed run resumes after the last batches that were written.

    Args:
        context: of the stage that runs.
        teacher: the network.
        tokenizer: the teacher's.
        rows: as the teacher reads them.
        layers: indices of the layers whose hidden states are stored.
        batch_size: rows of a forward pass.
        folder: where the files are, in ``context.work``.
    """
    directory = context.work / folder
    directory.mkdir(parents=True, exist_ok=True)
    firsts = _first_units(context.task, rows)
    width = int(teacher.config.hidden_size) if layers else 0
    empty = TeacherOutputs(
        torch.empty(0), firsts, _first_tokens(rows), directory / HIDDEN, len(layers), width
    )
    teacher.to(context.device).eval()
    _run_batches(context, teacher, tokenizer, rows, layers, batch_size, empty)
    teacher.cpu()
    logits = mapped.opened(directory / LOGITS, int(firsts[-1]), context.task.width_of(teacher))
    return replace(empty, logits=torch.from_numpy(logits))


def stored_outputs(
    context: Context, artifact: Artifact, splits: Sequence[Split], rows: Sequence[Row]
) -> TeacherOutputs:
    """Return the outputs that a transfer set has for the rows of splits, without hidden states.

    Args:
        context: of the stage that runs.
        artifact: a transfer set with answers.
        splits: those whose rows are answered, in the order of ``rows``.
        rows: as the student reads them.

    Raises:
        ModelError: unless there is an output for each unit of the rows.
    """
    by_split = transfer_set.answers(artifact)
    firsts = _first_units(context.task, rows)
    parts = itertools.chain.from_iterable(
        by_split[split.name].split(training.CHUNK) for split in splits
    )
    logits = mapped.written(context.work, (part.float().numpy() for part in parts))
    if firsts[-1] != len(logits):
        raise ModelError(
            f"the transfer set has {len(logits)} answers to the {firsts[-1]} texts of the student; "
            "label them again"
        )
    return TeacherOutputs(torch.from_numpy(logits), firsts, _first_tokens(rows), Path())


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
    matrix = task.fitting(first.logits, task.width_of(student))
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


def _first_units(task: Task, rows: Sequence[Row]) -> NDArray[np.int64]:
    """Return the first unit of each row, and the number of all units."""
    if task.unit_per_row:
        return np.arange(len(rows) + 1)
    return np.concatenate([[0], np.cumsum([task.units(row) for row in rows])])


def _first_tokens(rows: Sequence[Row]) -> NDArray[np.int64]:
    """Return the first token of each row, and the number of all tokens."""
    return np.concatenate([[0], np.cumsum(lengths(rows))])


def _run_batches(
    context: Context,
    teacher: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    layers: Sequence[int],
    batch_size: int,
    result: TeacherOutputs,
) -> None:
    """Write the files of ``result``, longest rows last; resume where an earlier run stopped."""
    directory = result.path.parent
    order = np.argsort(lengths(rows), kind="stable")
    done = _finished_rows(directory)
    (directory / LOGITS).touch()
    result.path.touch()
    saving_at = saved_at = time.monotonic()
    with (directory / LOGITS).open("r+b") as logit_file, result.path.open("r+b") as state_file:
        for start in range(done, len(order), batch_size):
            places = order[start : start + batch_size]
            batch = [rows[place] for place in places]
            logits, states = _forward(context, teacher, tokenizer, batch, layers)
            _write_logits(logit_file, result, places, logits)
            _write_states(state_file, result, places, states)
            done = start + len(places)
            context.progress(done, len(order), "teacher answers")
            now, cost = time.monotonic(), saved_at - saving_at
            if now - saved_at > pause(SAVE_SECONDS, cost) or done == len(order):
                saving_at = now
                _save(directory, (logit_file, state_file), done)
                saved_at = time.monotonic()


def _forward(
    context: Context, teacher: Any, tokenizer: Any, rows: Sequence[Row], layers: Sequence[int]
) -> tuple[Tensor, NDArray[np.float16]]:
    """Return raw outputs (units, width) and hidden states (rows, tokens, all widths)."""
    batch = {key: value.to(context.device) for key, value in collate(rows, tokenizer).items()}
    bf16 = use_bf16(context.device, teacher)
    with (
        torch.inference_mode(),
        torch.autocast(context.device, torch.bfloat16, enabled=bf16),
        captured_states(teacher, layers) as states,
    ):
        raw = context.task.outputs(teacher, batch).float().cpu()
    if not layers:
        return raw, np.empty((len(rows), 0, 0), np.float16)
    joined = torch.cat([states[layer] for layer in layers], dim=-1)
    return raw, joined.to(torch.float16).cpu().numpy()


def _write_logits(
    file: IO[bytes], result: TeacherOutputs, places: NDArray[np.int64], logits: Tensor
) -> None:
    """Write the raw outputs (units, width) of the rows at ``places`` where they belong."""
    counts = (result.units[places + 1] - result.units[places]).tolist()
    for place, part in zip(places, logits.split(counts), strict=True):
        file.seek(result.units[place] * logits.shape[1] * 4)
        file.write(part.numpy().tobytes())


def _write_states(
    file: IO[bytes],
    result: TeacherOutputs,
    places: NDArray[np.int64],
    states: NDArray[np.float16],
) -> None:
    """Write the states (rows, tokens, all widths) of the rows at ``places``, without padding."""
    token_bytes = result.states * result.width * 2
    for place, row_states in zip(places, states, strict=True):
        first, end = result.starts[place], result.starts[place + 1]
        file.seek(first * token_bytes)
        file.write(row_states[: end - first].tobytes())


def _save(directory: Path, files: Sequence[IO[bytes]], done: int) -> None:
    """Record that ``done`` rows are finished, after their outputs are on the disk."""
    for file in files:
        file.flush()
        os.fsync(file.fileno())
    disk.write(directory / DONE, {"rows": done})


def _finished_rows(directory: Path) -> int:
    """Return how many rows an earlier run had finished."""
    path = directory / DONE
    return int(json.loads(path.read_text())["rows"]) if path.exists() else 0


def imitation(
    task: Task,
    teacher_outputs: TeacherOutputs,
    *,
    alpha: float,
    temperature: float,
    squared: bool = False,
    state_loss: StateLoss | None = None,
) -> Loss:
    """Return a student's loss: alpha · soft + (1 − alpha) · hard + the loss of hidden states.

    ``row`` in a batch holds the rows' indices. Rows without a label have the soft loss only.

    Args:
        task: of the recipe.
        teacher_outputs: in the student's width.
        alpha: the share of the teacher's outputs in the loss.
        temperature: softens both outputs.
        squared: compare raw outputs by their squared difference instead.
        state_loss: of the hidden states, if they are learned.
    """

    def loss(student: Any, batch: dict[str, Tensor]) -> Tensor:
        rows = batch["row"].tolist()
        layers = state_loss.student_layers if state_loss else []
        with captured_states(student, layers) as states:
            raw = task.outputs(student, batch)
        goal = teacher_outputs.raw(rows).to(raw.device)
        soft = _squared_difference(raw, goal) if squared else task.imitation(raw, goal, temperature)
        total = alpha * soft + (1 - alpha) * task.loss(raw, batch, total=False)
        if state_loss is None:
            return total
        places = [place for place, row in enumerate(rows) if state_loss.comparable[row]]
        if not places:
            return total
        hidden = teacher_outputs.hidden([rows[place] for place in places])
        teacher_states = [state.to(raw.device) for state in hidden]
        mask = batch["attention_mask"][places, : hidden[0].shape[1]]
        return total + state_loss.compute(student, states, teacher_states, places, mask)

    return loss


def _squared_difference(raw: Tensor, goal: Tensor) -> Tensor:
    """Return the mean squared difference of outputs (units, width); 0 if there are none."""
    finite = raw.isfinite().all(-1) & goal.isfinite().all(-1)  # a word may be cut off
    if finite.any():
        return losses.answers(raw[finite], goal[finite])
    return 0 * raw[~finite].nansum()
