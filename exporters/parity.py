"""Check that a rewritten graph still gives the same answers as the PyTorch model.

Graph rewrites often do silent damage: a fusion with a wrong head count loads, runs and gives wrong
answers. Therefore the logits are compared on a single token, on real rows, on rows of the full
length, and on padded batches of rows of different length. Integer arithmetic changes logits by more
than a tolerance that would still catch a fault. For int8, the answers are compared instead: how far
they drift, whether those on which PyTorch is decided are the same, and whether they tell rows apart
as PyTorch's do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from exporters import saving
from pipeline.measure import machine
from pipeline.stage.tasks import Task
from pipeline.terms.errors import ModelError

Precision = Literal["fp32", "fp16", "bf16", "int8"]
Feed = dict[str, NDArray[np.int64]]

# Largest difference of a logit, relative to the largest logit (or to 1, if that is smaller).
TOLERANCE: dict[Precision, float] = {
    "fp32": 1e-4,
    "fp16": 2e-2,
    "bf16": 1e-1,
    "int8": float("inf"),
}
MEAN_DRIFT = 0.05  # int8: mean absolute difference of an answer, relative to the largest (or 1)
LEAST_AGREEMENT = 0.95  # int8: share of decided units with the same answer
MOST_NOISE = 0.8  # int8: error of the raw outputs, relative to how PyTorch's differ between units
LEAST_SPREAD = 0.5
"""How much raw outputs differ if a model tells rows apart; before training, they do much less."""
BATCH = 8
LEVEL = "basic"
"""ONNX Runtime's optimization level for checks: it leaves a graph's operators as they are."""


@dataclass(frozen=True)
class Case:
    """One input, and PyTorch's raw output for it, e.g. logits: rows × labels."""

    feed: Feed
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class Parity:
    """How close a graph is to PyTorch: largest logit difference, share of equal answers, rows."""

    max_difference: float
    agreement: float
    rows: int


def cases(
    task: Task,
    model: Any,
    rows: Sequence[dict[str, list[int]]],
    names: Sequence[str],
    pad: int,
    longer: Sequence[dict[str, list[int]]] = (),
) -> list[Case]:
    """Return inputs of various shapes with PyTorch's answers.

    Args:
        task: says which of the model's outputs the graph gives.
        model: the PyTorch model.
        rows: tokenized rows, unpadded.
        names: the graph's inputs.
        pad: the tokenizer's padding id.
        longer: rows that reach past the model's boundaries; see ``exporters.boundaries``.
    """
    feeds = [_padded([{name: row[name][:1] for name in names} for row in rows[:1]], names, pad)]
    feeds += [_padded([row], names, pad) for row in rows]
    feeds += [_padded(rows[at : at + BATCH], names, pad) for at in range(0, len(rows), 4 * BATCH)]
    feeds += [_padded([row], names, pad) for row in longer]
    if longer:
        feeds.append(_padded([*rows[:1], *longer[-2:]], names, pad))
    return [Case(*pair) for pair in zip(feeds, _answers(task, model, feeds), strict=True)]


def few(cases: Sequence[Case]) -> list[Case]:
    """Return some of the cases, of every kind: one token, rows, a padded batch, and the longest."""
    alone = [case for case in cases if len(case.feed["input_ids"]) == 1]
    batches = [case for case in cases if len(case.feed["input_ids"]) > 1]
    longest = max(alone, key=lambda case: case.feed["input_ids"].size)
    return [*alone[::BATCH], longest, *batches[:1]]


def session(graph: ir.Model, level: str = LEVEL) -> Any:
    """Return a session of a graph on the CPU, at an optimization level."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = machine.usable()
    options.log_severity_level = 3
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = getattr(levels, f"ORT_ENABLE_{level.upper()}")
    return saving.session(graph, options)


def check(
    task: Task,
    graph: ir.Model,
    expected: Sequence[Case],
    precision: Precision,
    what: str,
    level: str = LEVEL,
) -> Parity:
    """Compare a graph with PyTorch, in a session on the CPU at an optimization level.

    Raises ModelError, which names the rewrite ``what``, if the answers differ too much.
    """
    try:
        opened = session(graph, level)
        actual = [opened.run(None, case.feed)[0] for case in expected]
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"export: ONNX Runtime cannot run the graph after {what}: {reason}"
        ) from error
    return compare(task, [case.logits for case in expected], actual, precision, what)


def compare(
    task: Task,
    expected: Sequence[NDArray[np.float32]],
    actual: Sequence[NDArray[np.float32]],
    precision: Precision,
    what: str,
) -> Parity:
    """Compare raw outputs, such as logits. Raises ModelError if they differ too much."""
    want, have = (
        np.concatenate([output.reshape(-1, output.shape[-1]) for output in outputs]).astype(float)
        for outputs in (expected, actual)
    )
    if not np.isfinite(have).all():
        raise ModelError(f"export: the logits are not finite after {what}")
    difference = float(np.abs(want - have).max())
    limit = TOLERANCE[precision] * max(1.0, float(np.abs(want).max()))
    if difference > limit:
        raise ModelError(
            f"export: after {what}, a logit differs from PyTorch's by {difference:.2g}; "
            f"{precision} allows {limit:.2g}"
        )
    exact, rough = task.head.predictions(want), task.head.predictions(have)
    rounding = task.head.rounding(exact, rough)
    if precision != "fp32":
        decided = rounding.same[rounding.decided]
        _check_answers(rounding.exact, rounding.rough, decided, what)
        _check_noise(want, have, what)
    return Parity(difference, float(rounding.same.mean()), len(want))


def _check_answers(
    likely: NDArray[np.float64], drifted: NDArray[np.float64], same: NDArray[np.bool_], what: str
) -> None:
    """Raise ModelError if answers drift, or if those that are decided do not stay the same."""
    drift = float(np.abs(likely - drifted).mean()) / max(1.0, float(np.abs(likely).max()))
    if drift > MEAN_DRIFT:
        raise ModelError(
            f"export: after {what}, answers differ from PyTorch's by {drift:.2g} on average; "
            f"at most {MEAN_DRIFT} is allowed"
        )
    if len(same) and same.mean() < LEAST_AGREEMENT:
        raise ModelError(
            f"export: after {what}, only {same.mean():.1%} of the answers equal PyTorch's; "
            f"at least {LEAST_AGREEMENT:.0%} must"
        )


def _check_noise(want: NDArray[np.float64], have: NDArray[np.float64], what: str) -> None:
    """Raise ModelError if outputs are hardly nearer to PyTorch's than their mean is.

    Answers that are never decided, rare tags and scores far from 0 pass the other checks even if a
    graph gives all rows the same answer.
    """
    spread = float(np.sqrt(np.mean((want - want.mean(axis=0)) ** 2)))
    noise = float(np.sqrt(np.mean((have - want) ** 2)))
    if spread > LEAST_SPREAD and noise > MOST_NOISE * spread:
        raise ModelError(
            f"export: after {what}, outputs differ from PyTorch's by {noise / spread:.0%} of what "
            f"these differ between rows; at most {MOST_NOISE:.0%} is allowed"
        )


def _padded(rows: Sequence[dict[str, list[int]]], names: Sequence[str], pad: int) -> Feed:
    longest = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": pad}
    return {
        name: np.array(
            [row[name] + [fill.get(name, 0)] * (longest - len(row[name])) for row in rows],
            dtype=np.int64,
        )
        for name in names
    }


def _answers(task: Task, model: Any, feeds: Sequence[Feed]) -> list[NDArray[np.float32]]:
    """Return PyTorch's answers; single rows of one length, which need no padding, share a call."""
    by_shape: dict[Any, list[int]] = {}
    for at, feed in enumerate(feeds):
        rows, length = feed["input_ids"].shape
        by_shape.setdefault(length if rows == 1 else (at, length), []).append(at)
    answers = [np.empty(0, np.float32)] * len(feeds)
    for group in by_shape.values():
        together = {name: np.concatenate([feeds[at][name] for at in group]) for name in feeds[0]}
        found = _answer(task, model, together)
        for at, answer in zip(group, np.split(found, len(group)), strict=True):
            answers[at] = answer
    return answers


def _answer(task: Task, model: Any, feed: Feed) -> NDArray[np.float32]:
    import torch

    with torch.no_grad():
        tensors = {name: torch.from_numpy(value) for name, value in feed.items()}
        raw = task.head.graph_output(model(**tensors), tensors, model.config)
    found: NDArray[np.float32] = raw.float().numpy()
    return found
