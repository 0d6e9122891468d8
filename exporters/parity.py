"""Check that a rewritten graph still gives the same answers as the PyTorch model.

Graph rewrites often do silent damage: a fusion with a wrong head count loads, runs and gives wrong
answers. Therefore the logits are compared on a single token, on real rows, on rows of the full
length, and on padded batches of rows of different length. Integer arithmetic changes logits by more
than a tolerance that would still catch a fault. For int8, the answers are compared instead: how far
they drift, whether those on which PyTorch is decided are the same, and whether they tell rows apart
as PyTorch's do.

Real rows are often shorter than the window of a layer with local attention or than the nearest
positions that DeBERTa's buckets keep apart. A graph that is wrong beyond such a boundary gives
the correct answers up to it. The check therefore also runs on longer rows, joined from real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rarefy.exporters import saving
from rarefy.pipeline.measure import machine
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.errors import ModelError

Precision = Literal["fp32", "fp16", "bf16", "int8"]
Feed = dict[str, NDArray[np.int64]]
Row = dict[str, list[int]]

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

ENOUGH = (
    2048  # tokens; attention needs memory of heads × length², so rows end here or past a window
)
WIDTHS = ("local_attention", "sliding_window", "attention_window", "attention_chunk_size")
BUCKETS = ("position_buckets", "relative_attention_num_buckets", "max_relative_positions")
"""Settings of a config that name a window of local attention, and a table of distances."""


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
    rows: Sequence[Row],
    names: Sequence[str],
    pad: int,
    longer: Sequence[Row] = (),
) -> list[Case]:
    """Return inputs of various shapes with PyTorch's answers.

    Args:
        task: says which of the model's outputs the graph gives.
        model: the PyTorch model.
        rows: tokenized rows, unpadded.
        names: the graph's inputs.
        pad: the tokenizer's padding id.
        longer: rows that reach past the model's boundaries; see ``long_rows``.
    """
    one_token = {name: rows[0][name][:1] for name in names}
    batches = [[one_token]]
    batches += [[row] for row in rows]
    batches += [list(rows[at : at + BATCH]) for at in range(0, len(rows), 4 * BATCH)]
    batches += [[row] for row in longer]
    if longer:
        batches.append([rows[0], *longer[-2:]])
    feeds = [_padded(batch, names, pad) for batch in batches]
    outputs = _answers(task, model, feeds)
    return [Case(feed, output) for feed, output in zip(feeds, outputs, strict=True)]


def few(cases: Sequence[Case]) -> list[Case]:
    """Return some of the cases, of every kind: one token, rows, a padded batch, and the longest."""
    alone, batches = [], []
    for case in cases:
        if len(case.feed["input_ids"]) == 1:
            alone.append(case)
        else:
            batches.append(case)
    longest = max(alone, key=lambda case: case.feed["input_ids"].size)
    return [*alone[::BATCH], longest, *batches[:1]]


def session(graph: ir.Model, level: str = LEVEL) -> Any:
    """Return a session of a graph on the CPU, at an optimization level."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = machine.usable()
    options.log_severity_level = 3
    name = f"ORT_ENABLE_{level.upper()}"
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, name)
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
    """Compare raw outputs, such as logits. Raises ModelError if they differ too much.

    Args:
        task: says what the outputs mean.
        expected: PyTorch's outputs for each case, each (…, width).
        actual: those of the graph, of the same shapes.
        precision: that of the graph, which says what may differ.
        what: the rewrite that made it, for the error.
    """
    want = _flat(expected)
    have = _flat(actual)
    if not np.isfinite(have).all():
        raise ModelError(f"export: the logits are not finite after {what}")
    difference = float(np.abs(want - have).max())
    largest = max(1.0, float(np.abs(want).max()))
    limit = TOLERANCE[precision] * largest
    if difference > limit:
        raise ModelError(
            f"export: after {what}, a logit differs from PyTorch's by {difference:.2g}; "
            f"{precision} allows {limit:.2g}"
        )
    exact = task.head.predictions(want)
    rough = task.head.predictions(have)
    rounding = task.head.rounding(exact, rough)
    if precision != "fp32":
        decided = rounding.same[rounding.decided]
        _check_answers(rounding.exact, rounding.rough, decided, what)
        _check_noise(want, have, what)
    return Parity(difference, float(rounding.same.mean()), len(want))


def _flat(outputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return the outputs of all cases below each other, (units, width)."""
    rows = [output.reshape(-1, output.shape[-1]) for output in outputs]
    return np.concatenate(rows).astype(float)


def _check_answers(
    likely: NDArray[np.float64], drifted: NDArray[np.float64], same: NDArray[np.bool_], what: str
) -> None:
    """Raise ModelError if answers drift, or if those that are decided do not stay the same."""
    largest = max(1.0, float(np.abs(likely).max()))
    drift = float(np.abs(likely - drifted).mean()) / largest
    if drift > MEAN_DRIFT:
        raise ModelError(
            f"export: after {what}, predictions differ from PyTorch's by {drift:.2g} on average; "
            f"at most {MEAN_DRIFT} is allowed"
        )
    if len(same) and same.mean() < LEAST_AGREEMENT:
        raise ModelError(
            f"export: after {what}, only {same.mean():.1%} of the predictions equal PyTorch's; "
            f"at least {LEAST_AGREEMENT:.0%} must"
        )


def _check_noise(want: NDArray[np.float64], have: NDArray[np.float64], what: str) -> None:
    """Raise ModelError if outputs are hardly nearer to PyTorch's than their mean is.

    Answers that are never decided, rare tags and scores far from 0 pass the other checks even if a
    graph gives all rows the same answer.
    """
    deviations = want - want.mean(axis=0)
    spread = float(np.sqrt(np.mean(deviations**2)))
    noise = float(np.sqrt(np.mean((have - want) ** 2)))
    if spread > LEAST_SPREAD and noise > MOST_NOISE * spread:
        raise ModelError(
            f"export: after {what}, outputs differ from PyTorch's by {noise / spread:.0%} of what "
            f"these differ between rows; at most {MOST_NOISE:.0%} is allowed"
        )


def _padded(rows: Sequence[Row], names: Sequence[str], pad: int) -> Feed:
    """Return rows as the graph's inputs, each (rows, longest)."""
    longest = max(len(row["input_ids"]) for row in rows)
    feed = {}
    for name in names:
        fill = pad if name == "input_ids" else 0
        padded = [row[name] + [fill] * (longest - len(row[name])) for row in rows]
        feed[name] = np.array(padded, dtype=np.int64)
    return feed


def _answers(task: Task, model: Any, feeds: Sequence[Feed]) -> list[NDArray[np.float32]]:
    """Return PyTorch's answers; single rows of one length, which need no padding, share a call."""
    groups: dict[Any, list[int]] = {}
    for at, feed in enumerate(feeds):
        rows, length = feed["input_ids"].shape
        key = length if rows == 1 else (at, length)
        groups.setdefault(key, []).append(at)
    outputs = [np.empty(0, np.float32)] * len(feeds)
    for group in groups.values():
        together = {}
        for name in feeds[0]:
            together[name] = np.concatenate([feeds[at][name] for at in group])
        parts = np.split(_answer(task, model, together), len(group))
        for at, part in zip(group, parts, strict=True):
            outputs[at] = part
    return outputs


def _answer(task: Task, model: Any, feed: Feed) -> NDArray[np.float32]:
    import torch

    with torch.no_grad():
        tensors = {name: torch.from_numpy(value) for name, value in feed.items()}
        raw = task.head.graph_output(model(**tensors), tensors, model.config)
    outputs: NDArray[np.float32] = raw.float().numpy()
    return outputs


def reach(config: Any, max_length: int) -> int:
    """Return the length of the longest row to check: past every boundary, up to ``max_length``."""
    longest = max((2 * length for length in _boundaries(config)), default=1)
    return min(max_length, max(ENOUGH, longest))


def long_rows(config: Any, rows: Sequence[Row], max_length: int) -> list[Row]:
    """Return at most three rows: of the full length, and past the nearest and farthest boundary.

    Args:
        config: the model's configuration.
        rows: tokenized rows; the long ones consist of their tokens.
        max_length: the longest row that the bundle reads.
    """
    longest = reach(config, max_length)
    within = [length + 1 for length in _boundaries(config) if length + 1 < longest]
    lengths = {*within[:1], *within[-1:], longest}
    return [joined(rows, length) for length in sorted(lengths)]


def joined(rows: Sequence[Row], length: int) -> Row:
    """Return a row of ``length`` tokens: the start and end of the first, the middle of them all."""
    row: Row = {}
    for name in rows[0]:
        first = rows[0][name]
        middle = []
        for tokens in rows:
            middle += tokens[name][1:-1]
        if not middle:
            for tokens in rows:
                middle += tokens[name]
        missing = max(0, length - len(first))
        repeated = middle * (missing // len(middle) + 1)
        row[name] = (first[:-1] + repeated[:missing] + first[-1:])[:length]
    return row


def _boundaries(config: Any) -> list[int]:
    """Return the lengths, shortest first, that a window or a table of distances sets."""
    text = config
    if hasattr(config, "get_text_config"):
        text = config.get_text_config()
    lengths: set[int] = set()
    for name in (*WIDTHS, *BUCKETS):
        value = getattr(text, name, None)
        sizes = value if isinstance(value, list | tuple) else [value]
        for size in sizes:
            if isinstance(size, int) and size > 0:
                # A width may count both sides of a token, and so does a table of distances.
                lengths.add((size + 1) // 2)
                lengths.add(size)
    return sorted(lengths)
