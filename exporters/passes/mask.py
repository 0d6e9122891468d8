"""Compute padding masks in four nodes: (1 - attention_mask) · lowest.

Its shape is batch × 1 × 1 × sequence. transformers builds it from ranges, comparisons and a gather,
in about twenty nodes, as batch × 1 × sequence × sequence. In a bidirectional encoder all its rows
are equal, so a single row that broadcasts is enough. The results for padded batches do not change.

Other masks look the same in the graph: a decoder's causal mask, and the window of a layer with
local attention. Each candidate is therefore computed for rows of many lengths, up to the longest
that the bundle reads, and replaced only if it hides the padding and nothing else in all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from exporters.passes.evaluate import evaluate
from exporters.passes.graph import added_to_scores, constant, integers, node, read_inputs

HIDDEN = -1e4  # the weakest penalty in use: its exponential is exactly 0 in fp32
MANY = 1024  # from this length on, one row is tried instead of four: masks are length × length


def apply(model: ir.Model, longest: int = 512) -> int:
    """Replace the padding masks that are added to attention scores. Returns the number of sums.

    ``longest``: the number of tokens in the longest row that the graph will be given.
    """
    inputs = {value.name: value for value in model.graph.inputs}
    if "attention_mask" not in inputs:
        return 0
    sums = []
    for adding, at, value in added_to_scores(model):
        if read_inputs(value) == {"attention_mask"}:
            sums.append((adding, at, value))
    candidates = dict.fromkeys(value for *_, value in sums)
    proven = _padding_masks(model, list(candidates), longest)
    matches = [(adding, at) for adding, at, value in sums if value in proven]
    if not matches:
        return 0
    steps = _penalty(model, inputs["attention_mask"])
    mask = steps[-1].outputs[0]
    mask.shape = ir.Shape(["batch", 1, 1, "sequence"])
    mask.dtype = ir.DataType.FLOAT
    model.graph.insert_before(model.graph[0], steps)
    for adding, at in matches:
        adding.replace_input_with(at, mask)
    return len(matches)


def _penalty(model: ir.Model, attention_mask: ir.Value) -> list[ir.Node]:
    """Return nodes whose last makes what is added to scores: batch × 1 × 1 × tokens."""
    one = constant(model, "mask.one", np.array(1, dtype=np.float32))
    lowest = constant(model, "mask.lowest", np.array(np.finfo(np.float32).min))
    axes = integers(model, "mask.axes", [1, 2])
    shown = node("Cast", [attention_mask], to=ir.DataType.FLOAT)
    hidden = node("Sub", [one, shown])
    penalty = node("Mul", [hidden, lowest])
    mask = node("Unsqueeze", [penalty, axes])
    return [shown, hidden, penalty, mask]


def _padding_masks(model: ir.Model, candidates: list[ir.Value], longest: int) -> set[ir.Value]:
    """Return the candidates that hide the padding, and nothing else, for every mask tried."""
    if not candidates:
        return set()
    proven = set(candidates)
    for mask in _attention_masks(longest):
        feed = {str(value.name): np.ones_like(mask) for value in model.graph.inputs}
        feed["attention_mask"] = mask
        [arrays] = evaluate(model, candidates, [feed])
        for value, array in zip(candidates, arrays, strict=True):
            if not _hides_padding_only(array, mask):
                proven.discard(value)
    return proven


def _attention_masks(longest: int) -> Iterator[NDArray[np.int64]]:
    """Yield attention masks of various lengths: full, padded on both sides, and with holes.

    The last one has the full length. Its first and last tokens are as far from each other as any
    two can be, so it shows every window that a row of this bundle can reach.
    """
    short = [length for length in (1, 2, 9, 64) if length < longest]
    for length in (*short, longest):
        places = np.arange(length)
        end = max(1, length - length // 4)
        rows = [places < end]
        if length < MANY:
            rows.append(places >= 0)
            rows.append(places >= length // 3)
            rows.append((places % 3 > 0) | (places == 0))
        yield np.array(rows).astype(np.int64)


def _hides_padding_only(array: NDArray[np.float32], mask: NDArray[np.int64]) -> bool:
    """Return whether a batch × … × sequence array is 0 where the mask is 1, else a penalty."""
    if array.ndim != 4 or array.shape[-1] != mask.shape[-1]:
        return False
    shown = mask[:, None, None, :] == 1
    correct = np.where(shown, array == 0, array <= HIDDEN)
    return bool(correct.all())
