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
from numpy.typing import ArrayLike, NDArray
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
from rarefy.stages.teachers.state_losses import StateLoss
from rarefy.stages.teachers.states import captured_states
from rarefy.stages.training import run as training
from rarefy.stages.training.loop import collate, use_bf16
from rarefy.stages.training.parameters import TEACHER_BATCH, Loss, Row
from rarefy.stages.training.rows import lengths
from rarefy.stages.transfer import files as transfer_set

LOGITS, HIDDEN, DONE = "logits.f32", "hidden.f16", "done.json"
SAVE_SECONDS = 5.0
TURNED = 2000
"""Rows, at most, by which a teacher's narrower outputs are turned towards a student's."""


@dataclass(frozen=True)
class Spans:
    """Where the parts of each row, its units or its tokens, stand among those of all rows."""

    firsts: NDArray[np.int64]
    """(rows + 1,), the first part of each row, and the number of all parts."""

    @classmethod
    def from_counts(cls, counts: ArrayLike) -> Spans:
        """Return the spans of rows that have so many parts, one row after another."""
        return cls(np.concatenate([[0], np.cumsum(counts)]))

    @property
    def total(self) -> int:
        """The parts of all rows."""
        return int(self.firsts[-1])

    def first(self, row: int) -> int:
        """Return the first part of a row."""
        return int(self.firsts[row])

    def count(self, row: int) -> int:
        """Return the number of a row's parts."""
        return self.first(row + 1) - self.first(row)

    def parts(self, rows: Sequence[int]) -> NDArray[np.int64]:
        """Return the parts of some rows, row after row."""
        ranges = [np.arange(self.first(row), self.first(row + 1)) for row in rows]
        return np.concatenate(ranges)


@dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's raw outputs and hidden states for every row.

    The hidden states are in a raw fp16 file, unpadded, row after row: for each token, state after
    state. They are read with plain reads rather than memory-mapped, because mapped pages would
    count as resident memory.
    """

    logits: Tensor
    """Raw outputs (units, width) in fp32, memory-mapped."""
    units: Spans
    tokens: Spans
    path: Path
    """The file of hidden states."""
    states: int = 0
    """The number of hidden states of each token."""
    width: int = 0
    """The width of each of them."""

    def raw(self, rows: Sequence[int]) -> Tensor:
        """Return the raw outputs of some rows' units, row after row: (units, width)."""
        return self.logits[self.units.parts(rows)]

    def hidden(self, rows: Sequence[int]) -> list[Tensor]:
        """Return each state in fp16 (rows, tokens, width), padded on the right with zeros."""
        counts = [self.tokens.count(row) for row in rows]
        size = self.states * self.width
        padded = np.zeros((len(rows), max(counts), size), np.float16)
        for place, count in enumerate(counts):
            first = self.tokens.first(rows[place])
            offset = first * size * padded.itemsize
            numbers = np.fromfile(self.path, np.float16, count * size, offset=offset)
            padded[place, :count] = numbers.reshape(count, size)
        states = torch.from_numpy(padded)
        return list(states.split(self.width, dim=-1))


def answers(context: Context, artifact: Artifact, *splits: Split) -> TeacherOutputs:
    """Return a model's raw outputs for the rows of splits, by default the training rows."""
    network, tokenizer = training.open_network(context, artifact)
    if not splits:
        splits = (context.split("train"),)
    rows = training.labelled_rows(context, tokenizer, *splits)
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
    units, tokens = _unit_spans(context.task, rows), Spans.from_counts(lengths(rows))
    teacher.to(context.device).eval()
    _run_batches(context, teacher, tokenizer, rows, layers, batch_size, directory, units, tokens)
    teacher.cpu()
    width = context.task.head.width(teacher)
    logits = torch.from_numpy(mapped.opened(directory / LOGITS, units.total, width))
    hidden_size = int(teacher.config.hidden_size) if layers else 0
    return TeacherOutputs(
        logits, units, tokens, directory / HIDDEN, states=len(layers), width=hidden_size
    )


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
    chunks = _chunks(by_split[split.name] for split in splits)
    logits = torch.from_numpy(mapped.written(context.work, chunks))
    units, tokens = _unit_spans(context.task, rows), Spans.from_counts(lengths(rows))
    if units.total != len(logits):
        raise ModelError(
            f"the transfer set has {len(logits)} predictions for the {units.total} texts of the "
            "student; label them again"
        )
    return TeacherOutputs(logits, units, tokens, Path())


def _chunks(outputs_of_splits: Iterable[Tensor]) -> Iterator[NDArray[np.float32]]:
    """Yield outputs (units, width) in fp32, some units at a time."""
    for raw in outputs_of_splits:
        for part in raw.split(training.CHUNK):
            yield part.float().numpy()


def _unit_spans(task: Task, rows: Sequence[Row]) -> Spans:
    """Return where the units of each row stand among all units."""
    if task.encoder.unit_per_row:
        return Spans(np.arange(len(rows) + 1))
    return Spans.from_counts([task.encoder.count_units(row) for row in rows])


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
    layers: Sequence[int],
    batch_size: int,
    directory: Path,
    units: Spans,
    tokens: Spans,
) -> None:
    """Write the files in a folder, longest rows last; resume where an earlier run stopped."""
    order = order_by_length(lengths(rows).tolist())
    done = _finished_rows(directory)
    logit_path, state_path = directory / LOGITS, directory / HIDDEN
    logit_path.touch()
    state_path.touch()
    saving_at = saved_at = time.monotonic()
    with logit_path.open("r+b") as logit_file, state_path.open("r+b") as state_file:
        for start in range(done, len(order), batch_size):
            places = order[start : start + batch_size]
            batch = [rows[place] for place in places]
            logits, states = _forward(context, teacher, tokenizer, batch, layers)
            counts = [units.count(place) for place in places]
            _write_rows(logit_file, units, places, logits.split(counts))
            _write_rows(state_file, tokens, places, states)
            done = start + len(places)
            context.progress(done, len(order), "teacher answers")
            now, cost = time.monotonic(), saved_at - saving_at
            if now - saved_at > pause(SAVE_SECONDS, cost) or done == len(order):
                saving_at = now
                _save(directory, (logit_file, state_file), done)
                saved_at = time.monotonic()


def _forward(
    context: Context, teacher: Any, tokenizer: Any, rows: Sequence[Row], layers: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return raw outputs (units, width) and, in fp16, hidden states (rows, tokens, all widths)."""
    padded = collate(rows, tokenizer)
    batch = {key: value.to(context.device) for key, value in padded.items()}
    bf16 = use_bf16(context.device, teacher)
    autocast = torch.autocast(context.device, torch.bfloat16, enabled=bf16)
    with torch.inference_mode(), autocast, captured_states(teacher, layers) as states:
        raw = context.task.head.outputs(teacher, batch).float().cpu()
    if not layers:
        return raw, torch.empty(len(rows), 0, 0)
    joined = torch.cat([states[layer] for layer in layers], dim=-1)
    return raw, joined.to(torch.float16).cpu()


def _write_rows(
    file: IO[bytes], spans: Spans, rows: Sequence[int], parts_of_rows: Iterable[Tensor]
) -> None:
    """Write the parts of some rows where they belong in a file of all rows.

    Args:
        file: open for writing anywhere.
        spans: of all rows.
        rows: their indices.
        parts_of_rows: for each of them (parts, width), perhaps with padding after its parts.
    """
    for row, padded in zip(rows, parts_of_rows, strict=True):
        parts = padded[: spans.count(row)].numpy()
        part_bytes = parts.shape[1] * parts.itemsize
        file.seek(spans.first(row) * part_bytes)
        file.write(parts.tobytes())


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
    state_loss: StateLoss | None = None,
) -> Loss:
    """Return a student's loss: alpha · soft + (1 − alpha) · hard + the loss of hidden states.

    ``row`` in a batch holds the rows' indices. Rows without a label have the soft loss only.

    Args:
        task: of the recipe.
        teacher_outputs: in the student's width.
        alpha: the share of the teacher's outputs in the loss.
        temperature: softens both outputs.
        state_loss: of the hidden states, if they are learned.
    """
    layers = state_loss.student_layers if state_loss else []

    def loss(student: Any, batch: dict[str, Tensor]) -> Tensor:
        rows = batch["row"].tolist()
        with captured_states(student, layers) as states:
            raw = task.head.outputs(student, batch)
        goal = teacher_outputs.raw(rows).to(raw.device)
        soft = task.objective.imitation(raw, goal, temperature)
        hard = task.objective.loss(raw, batch, total=False)
        total = alpha * soft + (1 - alpha) * hard
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
