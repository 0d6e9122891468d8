"""Make the target shapes of Reshape constants: 0 keeps an axis, -1 infers it.

The exporter computes them from the inputs' sizes in each layer (Shape, Concat), although batch and
sequence mostly stay the first two axes. Sizes that are already constant, those of heads, are kept.
A Reshape that restores these axes (GPT-2 joins them for each linear layer) stays computed.
"""

from __future__ import annotations

import onnx_ir as ir

from exporters.passes.graph import integers, producer, scalar


def apply(model: ir.Model) -> int:
    """Rewrite each Reshape whose target is Concat(batch, sequence, constants…). Returns a count."""
    count = 0
    for layer in list(model.graph):
        if layer.op_type != "Reshape":
            continue
        target = producer(layer.inputs[1], "Concat")
        if target is None or len(target.inputs) < 3 or not _keeps_leading_axes(layer):
            continue
        if not _is_axis(target.inputs[0], 0) or not _is_axis(target.inputs[1], 1):
            continue
        rest = [scalar(value) for value in target.inputs[2:]]
        sizes = [0, 0] + [int(size) for size in rest if size is not None]
        if len(sizes) != len(target.inputs):
            continue
        name = "shape." + ".".join(map(str, sizes))
        shape = integers(model, name, sizes)
        layer.replace_input_with(1, shape)
        layer.attributes["allowzero"] = ir.AttrInt64("allowzero", 0)
        count += 1
    return count


def _keeps_leading_axes(layer: ir.Node) -> bool:
    """Return whether the first two axes are the same before and after, by the traced shapes."""
    if layer.inputs[0] is None:
        return False
    before = layer.inputs[0].shape
    after = layer.outputs[0].shape
    if before is None or after is None or min(len(before), len(after)) < 2:
        return False
    return list(before[:2]) == list(after[:2])


def _is_axis(value: ir.Value | None, axis: int) -> bool:
    """Return whether this is the size of a graph input's batch (0) or sequence axis (1)."""
    source = producer(value, "Shape")
    if source is None or source.inputs[0] is None:
        return False
    start = source.attributes.get_int("start", 0)
    end = source.attributes.get_int("end", -1)
    return source.inputs[0].is_graph_input() and (start, end) == (axis, axis + 1)
