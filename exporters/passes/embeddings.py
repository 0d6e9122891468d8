"""Store embedding tables as int8 with one scale per row: a quarter of the size. Or in 4 bits.

Of a vocabulary, only the rows that are read are converted to float and scaled. A table of positions
is small: the runtime, which folds constants, converts it as a whole when it loads the graph.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from exporters.passes.graph import MICROSOFT, array, constant, node, replace
from pipeline.model import blockwise
from pipeline.model.quantization import Embeddings

LEAST_ROWS = 16  # smaller tables, such as the two token types, gain nothing
WHOLE = 1024
"""The most rows of a table that is converted when the graph is loaded."""


def takes_int4(rows: int, columns: int) -> bool:
    """Return whether a table is large enough for 4 bits, and a row a whole number of bytes."""
    return rows > WHOLE and columns % 2 == 0


def in_int8(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a table's rows in int8, and their scales: rows × 1."""
    scale = np.maximum(np.abs(table).max(axis=1, keepdims=True) / 127, 1e-12)
    return np.clip(np.rint(table / scale), -127, 127).astype(np.int8), scale.astype(np.float32)


def rounded(table: NDArray[np.float32], precision: Embeddings) -> NDArray[np.float32]:
    """Return the numbers that a bundle has instead of a table's (rows × columns)."""
    if precision == "float" or len(table) < LEAST_ROWS:
        return table
    if precision == "int4" and takes_int4(*table.shape):
        return blockwise.blocks(table).values()
    rows, scale = in_int8(table)
    return rows.astype(np.float32) * scale


def apply(model: ir.Model, precision: Embeddings = "int8") -> int:
    """Rewrite each Gather of rows from a float table. Returns the number of tables.

    With int4, small tables are in int8 all the same.
    """
    count = 0
    for lookup in list(model.graph):
        table = lookup.inputs[0]
        held = array(table) if lookup.op_type == "Gather" else None
        if table is None or held is None or held.ndim != 2 or held.dtype != np.float32:
            continue
        if lookup.attributes.get_int("axis", 0) != 0 or held.shape[0] < LEAST_ROWS:
            continue
        if precision == "int4" and takes_int4(*held.shape):
            replace(lookup.outputs[0], _in_int4(model, lookup, held))
            model.graph.remove(lookup, safe=True)
            count += 1
            continue
        rows, scale = in_int8(held)
        rows_value = constant(model, f"{table.name}.int8", rows)
        scale_value = constant(model, f"{table.name}.scale", scale)
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


def _in_int4(model: ir.Model, lookup: ir.Node, table: NDArray[np.float32]) -> ir.Value:
    """Insert the operator that reads rows of a table in 4 bits; return what it gives."""
    made, name = blockwise.blocks(table), lookup.inputs[0].name  # type: ignore[union-attr]
    picked = node(
        "GatherBlockQuantized",
        [
            constant(model, f"{name}.int4", blockwise.packed(made.codes)),
            lookup.inputs[1],
            constant(model, f"{name}.scale", made.scales),
            constant(model, f"{name}.zero", blockwise.packed(made.zeros)),
        ],
        like=lookup.outputs[0],
        domain=MICROSOFT,
        bits=4,
        block_size=blockwise.BLOCK,
        gather_axis=0,
        quantize_axis=1,
    )
    picked.outputs[0].shape = lookup.outputs[0].shape
    model.graph.insert_before(lookup, picked)
    return picked.outputs[0]
