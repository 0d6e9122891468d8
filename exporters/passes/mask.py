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
from exporters.passes.graph import constant, feeds_softmax, node, read_inputs

HIDDEN = -1e4  # the weakest penalty in use: its exponential is exactly 0 in fp32
MANY = 1024  # from this length on, one row is tried instead of four: masks are length × length


def apply(model: ir.Model, longest: int = 512) -> int:
    """Replace the padding masks that are added to attention scores. Returns the number of sums.

    ``longest``: the number of tokens in the longest row that the graph will be given.
    """
    inputs = {value.name: value for value in model.graph.inputs}
    if "attention_mask" not in inputs:
        return 0
    sums = [
        (adding, at, value)
        for adding in model.graph
        if adding.op_type == "Add" and feeds_softmax(adding)
        for at, value in enumerate(adding.inputs)
        if value is not None and read_inputs(value) == {"attention_mask"}
    ]
    proven = _padding_masks(model, list(dict.fromkeys(value for *_, value in sums)), longest)
    matches = [(adding, at) for adding, at, value in sums if value in proven]
    if not matches:
        return 0
    one = constant(model, "mask.one", np.array(1, dtype=np.float32))
    lowest = constant(model, "mask.lowest", np.array(np.finfo(np.float32).min))
    axes = constant(model, "mask.axes", np.array([1, 2], dtype=np.int64))
    kept = node("Cast", [inputs["attention_mask"]], to=ir.DataType.FLOAT)
    hidden = node("Sub", [one, kept.outputs[0]])
    penalty = node("Mul", [hidden.outputs[0], lowest])
    mask = node("Unsqueeze", [penalty.outputs[0], axes])
    mask.outputs[0].shape = ir.Shape(["batch", 1, 1, "sequence"])
    mask.outputs[0].dtype = ir.DataType.FLOAT
    model.graph.insert_before(model.graph[0], [kept, hidden, penalty, mask])
    for adding, at in matches:
        adding.replace_input_with(at, mask.outputs[0])
    return len(matches)


def _padding_masks(model: ir.Model, candidates: list[ir.Value], longest: int) -> set[ir.Value]:
    """Return the candidates that hide the padding, and nothing else, for every mask tried."""
    if not candidates:
        return set()
    proven = set(candidates)
    for mask in _attention_masks(longest):
        feed = {
            str(value.name): mask if value.name == "attention_mask" else np.ones_like(mask)
            for value in model.graph.inputs
        }
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
        kept = np.arange(length)
        rows = [kept < max(1, length - length // 4)]
        if length < MANY:
            rows += [kept >= 0, kept >= length // 3, (kept % 3 > 0) | (kept == 0)]
        yield np.array(rows).astype(np.int64)


def _hides_padding_only(array: NDArray[np.float32], mask: NDArray[np.int64]) -> bool:
    """Return whether a batch × … × sequence array is 0 where the mask is 1, else a penalty."""
    if array.ndim != 4 or array.shape[-1] != mask.shape[-1]:
        return False
    shown = mask[:, None, None, :] == 1
    return bool(np.where(shown, array == 0, array <= HIDDEN).all())
