"""Store embedding tables as int8 with one scale per row: a quarter of the size.

Of a vocabulary, only the rows that are read are converted to float and scaled. A table of positions
is small: the runtime, which folds constants, converts it as a whole when it loads the graph.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.passes.graph import array, constant, node, replace

LEAST_ROWS = 16  # smaller tables, such as the two token types, gain nothing
WHOLE = 1024
"""The most rows of a table that is converted when the graph is loaded."""


def apply(model: ir.Model) -> int:
    """Rewrite each Gather of rows from a float table. Returns the number of tables."""
    count = 0
    for lookup in list(model.graph):
        table = lookup.inputs[0]
        held = array(table) if lookup.op_type == "Gather" else None
        if table is None or held is None or held.ndim != 2 or held.dtype != np.float32:
            continue
        if lookup.attributes.get_int("axis", 0) != 0 or held.shape[0] < LEAST_ROWS:
            continue
        scale = np.maximum(np.abs(held).max(axis=1, keepdims=True) / 127, 1e-12)
        rows = np.clip(np.rint(held / scale), -127, 127).astype(np.int8)
        rows_value = constant(model, f"{table.name}.int8", rows)
        scale_value = constant(model, f"{table.name}.scale", scale.astype(np.float32))
        index = lookup.inputs[1]
        if len(held) <= WHOLE:
            wide = node("Cast", [rows_value], to=ir.DataType.FLOAT)
            whole = node("Mul", [wide.outputs[0], scale_value])
            model.graph.insert_before(lookup, [wide, whole])
            lookup.replace_input_with(0, whole.outputs[0])
            count += 1
            continue
        picked = node("Gather", [rows_value, index], axis=0)
        scales = node("Gather", [scale_value, index], axis=0)
        wide = node("Cast", [picked.outputs[0]], to=ir.DataType.FLOAT)
        scaled = node("Mul", [wide.outputs[0], scales.outputs[0]], like=lookup.outputs[0])
        scaled.outputs[0].shape = lookup.outputs[0].shape
        model.graph.insert_before(lookup, [picked, scales, wide, scaled])
        replace(lookup.outputs[0], scaled.outputs[0])
        model.graph.remove(lookup, safe=True)
        count += 1
    return count
