"""Check after every rewrite that the graph still gives the same answers as the PyTorch model.

Graph rewrites often do silent damage: a fusion with a wrong head count loads, runs and gives wrong
answers. Therefore the logits are compared on a single token, on real rows, on rows of the full
length, and on padded batches of rows of different length. Integer arithmetic changes logits by more
than a tolerance that would still catch a fault. For int8, the probabilities are compared instead,
and the labels of those rows on which PyTorch is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pipeline.terms.errors import ModelError

Precision = Literal["fp32", "fp16", "int8"]
Feed = dict[str, NDArray[np.int64]]

# Largest difference of a logit, relative to the largest logit (or to 1, if that is smaller).
TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "fp16": 2e-2, "int8": float("inf")}
MEAN_DRIFT = 0.05  # int8: mean absolute difference of a probability
LEAST_AGREEMENT = 0.95  # int8: share of decided rows with the same label
DECIDED = 0.1  # a row is decided if its two most likely labels are at least this far apart
BATCH = 8


@dataclass(frozen=True)
class Case:
    """One input, and PyTorch's logits for it (rows × labels)."""

    feed: Feed
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class Parity:
    """How close a graph is to PyTorch: largest logit difference, share of equal labels, rows."""

    max_difference: float
    agreement: float
    rows: int


def cases(
    model: Any,
    rows: Sequence[dict[str, list[int]]],
    names: Sequence[str],
    pad: int,
    longer: Sequence[dict[str, list[int]]] = (),
) -> list[Case]:
    """Return inputs of various shapes with PyTorch's answers.

    Args:
        model: the PyTorch classifier.
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
    return [Case(feed, _answer(model, feed)) for feed in feeds]


def check(graph: ir.Model, expected: Sequence[Case], precision: Precision, what: str) -> Parity:
    """Compare a graph with PyTorch.

    Raises ModelError, which names the rewrite ``what``, if the answers differ too much.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        session = onnxruntime.InferenceSession(
            ir.to_proto(graph).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        actual = [session.run(["logits"], case.feed)[0] for case in expected]
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"export: ONNX Runtime cannot run the graph after {what}: {reason}"
        ) from error
    return compare([case.logits for case in expected], actual, precision, what)


def compare(
    expected: Sequence[NDArray[np.float32]],
    actual: Sequence[NDArray[np.float32]],
    precision: Precision,
    what: str,
) -> Parity:
    """Compare logits, lists of rows × labels. Raises ModelError if they differ too much."""
    want = np.concatenate(expected).astype(np.float64)
    have = np.concatenate(actual).astype(np.float64)
    if not np.isfinite(have).all():
        raise ModelError(f"export: the logits are not finite after {what}")
    difference = float(np.abs(want - have).max())
    limit = TOLERANCE[precision] * max(1.0, float(np.abs(want).max()))
    if difference > limit:
        raise ModelError(
            f"export: after {what}, a logit differs from PyTorch's by {difference:.2g}; "
            f"{precision} allows {limit:.2g}"
        )
    likely, drifted = _softmax(want), _softmax(have)
    same = likely.argmax(axis=1) == drifted.argmax(axis=1)
    if precision != "fp32":
        _check_answers(likely, drifted, same, what)
    return Parity(difference, float(same.mean()), len(want))


def _check_answers(
    likely: NDArray[np.float64], drifted: NDArray[np.float64], same: NDArray[np.bool_], what: str
) -> None:
    drift = float(np.abs(likely - drifted).mean())
    if drift > MEAN_DRIFT:
        raise ModelError(
            f"export: after {what}, probabilities differ from PyTorch's by {drift:.2g} on average; "
            f"at most {MEAN_DRIFT} is allowed"
        )
    top = np.sort(likely, axis=1)
    decided = top[:, -1] - top[:, -2] >= DECIDED
    if decided.any() and same[decided].mean() < LEAST_AGREEMENT:
        raise ModelError(
            f"export: after {what}, only {same[decided].mean():.1%} of the labels equal PyTorch's; "
            f"at least {LEAST_AGREEMENT:.0%} must"
        )


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


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


def _answer(model: Any, feed: Feed) -> NDArray[np.float32]:
    import torch

    with torch.no_grad():
        tensors = {name: torch.from_numpy(value) for name, value in feed.items()}
        logits: NDArray[np.float32] = model(**tensors).logits.float().numpy()
    return logits
