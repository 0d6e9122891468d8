"""Compute the attention mask in four nodes: (1 - attention_mask) · lowest.

Its shape is batch × 1 × 1 × sequence. transformers builds it from ranges, comparisons and a gather,
in about twenty nodes, as batch × 1 × sequence × sequence. In a bidirectional encoder all its rows
are equal, so a single row that broadcasts is enough. The results for padded batches do not change.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.passes.graph import constant, node


def apply(model: ir.Model) -> int:
    """Replace the mask added to the attention scores before each softmax. Returns a count."""
    inputs = {value.name: value for value in model.graph.inputs}
    if "attention_mask" not in inputs:
        return 0
    matches = [
        (adding, at)
        for adding in model.graph
        if adding.op_type == "Add" and _feeds_softmax(adding)
        for at, value in enumerate(adding.inputs)
        if value is not None and _only_mask(value)
    ]
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


def _feeds_softmax(adding: ir.Node) -> bool:
    """Return whether a softmax reads this sum, perhaps through another sum (a position bias)."""
    readers = [usage.node for usage in adding.outputs[0].uses()]
    return any(
        reader.op_type == "Softmax" or (reader.op_type == "Add" and _feeds_softmax(reader))
        for reader in readers
    )


def _only_mask(value: ir.Value) -> bool:
    """Return whether a value depends on attention_mask and sizes, but on no other input's data."""
    seen, waiting, sees_mask = set(), [value], False
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        if current.is_graph_input():
            if current.name != "attention_mask":
                return False
            sees_mask = True
        source = current.producer()
        if source is not None and source.op_type != "Shape":
            waiting.extend(operand for operand in source.inputs if operand is not None)
    return sees_mask
