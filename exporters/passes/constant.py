"""Make the target shapes of Reshape constants: 0 keeps an axis, -1 infers it.

The exporter computes them from the inputs' sizes in each layer (Shape, Concat), although batch and
sequence mostly stay the first two axes. Sizes that are already constant, those of heads, are kept.
A Reshape that restores these axes (GPT-2 joins them for each linear layer) stays computed.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.passes.graph import array, constant


def apply(model: ir.Model) -> int:
    """Rewrite each Reshape whose target is Concat(batch, sequence, constants…). Returns a count."""
    count = 0
    for layer in list(model.graph):
        if layer.op_type != "Reshape" or layer.inputs[1] is None:
            continue
        target = layer.inputs[1].producer()
        if not _keeps_leading_axes(layer):
            continue
        if target is None or target.op_type != "Concat" or len(target.inputs) < 3:
            continue
        leading = [value.producer() if value else None for value in target.inputs[:2]]
        rest = [array(value) for value in target.inputs[2:]]
        if any(source is None or not _is_axis(source, at) for at, source in enumerate(leading)):
            continue
        if any(size is None or size.size != 1 for size in rest):
            continue
        sizes = [0, 0, *(int(size.reshape(())) for size in rest if size is not None)]
        name = "shape." + ".".join(map(str, sizes))
        layer.replace_input_with(1, constant(model, name, np.array(sizes, dtype=np.int64)))
        layer.attributes["allowzero"] = ir.AttrInt64("allowzero", 0)
        count += 1
    return count


def _keeps_leading_axes(layer: ir.Node) -> bool:
    """Return whether the first two axes are the same before and after, by the traced shapes."""
    before = layer.inputs[0].shape if layer.inputs[0] is not None else None
    after = layer.outputs[0].shape
    if before is None or after is None or min(len(before), len(after)) < 2:
        return False
    return list(before[:2]) == list(after[:2])


def _is_axis(source: ir.Node, axis: int) -> bool:
    """Return whether this is the size of a graph input's batch (0) or sequence axis (1)."""
    if source.op_type != "Shape" or source.inputs[0] is None:
        return False
    start = source.attributes.get_int("start", 0)
    end = source.attributes.get_int("end", -1)
    return source.inputs[0].is_graph_input() and (start, end) == (axis, axis + 1)
