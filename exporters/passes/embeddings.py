"""Store embedding tables as int8 with one scale per row: a quarter of the size. Or in 4 bits.

Of a vocabulary, only the rows that are read are converted to float and scaled. A table of positions
is small: the runtime, which folds constants, converts it as a whole when it loads the graph.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rarefy.exporters.passes.graph import MICROSOFT, array, constant, node, replace
from rarefy.pipeline.model.quantization import four_bits
from rarefy.pipeline.terms.recipe_parts import Embeddings

LEAST_ROWS = 16  # smaller tables, such as the two token types, gain nothing
WHOLE = 1024
"""The most rows of a table that is converted when the graph is loaded."""


def takes_int4(rows: int, columns: int) -> bool:
    """Return whether a table is large enough for 4 bits, and a row a whole number of bytes."""
    return rows > WHOLE and columns % 2 == 0


def in_int8(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a table's rows in int8, and their scales: rows × 1."""
    largest = np.abs(table).max(axis=1, keepdims=True)
    scale = np.maximum(largest / 127, 1e-12)
    rows = np.clip(np.rint(table / scale), -127, 127)
    return rows.astype(np.int8), scale.astype(np.float32)


def rounded(table: NDArray[np.float32], precision: Embeddings) -> NDArray[np.float32]:
    """Return the numbers that a bundle has instead of a table's (rows × columns)."""
    if precision == "float" or len(table) < LEAST_ROWS:
        return table
    if precision == "int4" and takes_int4(*table.shape):
        return four_bits.blocks(table).values()
    rows, scale = in_int8(table)
    return rows.astype(np.float32) * scale


def apply(model: ir.Model, precision: Embeddings = "int8") -> int:
    """Rewrite each Gather of rows from a float table. Returns the number of tables.

    With int4, small tables are in int8 all the same.
    """
    count = 0
    for lookup in list(model.graph):
        table = _table(lookup)
        if table is None:
            continue
        count += 1
        if precision == "int4" and takes_int4(*table.shape):
            rows = _in_int4(model, lookup, table)
        elif len(table) <= WHOLE:
            _convert_whole(model, lookup, table)
            continue
        else:
            rows = _in_int8(model, lookup, table)
        replace(lookup.outputs[0], rows)
        model.graph.remove(lookup, safe=True)
    return count


def _table(lookup: ir.Node) -> NDArray[np.float32] | None:
    """Return the float table whose rows a node reads; None if it is small or another node."""
    if lookup.op_type != "Gather" or lookup.attributes.get_int("axis", 0) != 0:
        return None
    table = array(lookup.inputs[0])
    if table is None or table.ndim != 2 or table.dtype != np.float32:
        return None
    if len(table) < LEAST_ROWS:
        return None
    return table


def _constants(
    model: ir.Model, lookup: ir.Node, table: NDArray[np.float32]
) -> tuple[ir.Value, ir.Value]:
    """Return the rows of a table in int8 and their scales, as constants of the graph."""
    rows, scale = in_int8(table)
    name = lookup.inputs[0].name  # type: ignore[union-attr]
    integers = constant(model, f"{name}.int8", rows)
    return integers, constant(model, f"{name}.scale", scale)


def _convert_whole(model: ir.Model, lookup: ir.Node, table: NDArray[np.float32]) -> None:
    """Let the lookup read a table that the runtime converts when it loads the graph."""
    rows, scale = _constants(model, lookup, table)
    wide = node("Cast", [rows], to=ir.DataType.FLOAT)
    whole = node("Mul", [wide, scale])
    model.graph.insert_before(lookup, [wide, whole])
    lookup.replace_input_with(0, whole.outputs[0])


def _in_int8(model: ir.Model, lookup: ir.Node, table: NDArray[np.float32]) -> ir.Value:
    """Insert the nodes that read rows in int8 and scale them; return the rows in float."""
    rows, scale = _constants(model, lookup, table)
    index = lookup.inputs[1]
    output = lookup.outputs[0]
    picked = node("Gather", [rows, index], axis=0)
    scales = node("Gather", [scale, index], axis=0)
    wide = node("Cast", [picked], to=ir.DataType.FLOAT)
    scaled = node("Mul", [wide, scales], like=output)
    scaled.outputs[0].shape = output.shape
    model.graph.insert_before(lookup, [picked, scales, wide, scaled])
    return scaled.outputs[0]


def _in_int4(model: ir.Model, lookup: ir.Node, table: NDArray[np.float32]) -> ir.Value:
    """Insert the operator that reads rows of a table in 4 bits; return what it gives."""
    blocks = four_bits.blocks(table)
    name = lookup.inputs[0].name  # type: ignore[union-attr]
    codes = constant(model, f"{name}.int4", four_bits.packed(blocks.codes))
    scales = constant(model, f"{name}.scale", blocks.scales)
    zeros = constant(model, f"{name}.zero", four_bits.packed(blocks.zeros))
    picked = node(
        "GatherBlockQuantized",
        [codes, lookup.inputs[1], scales, zeros],
        like=lookup.outputs[0],
        domain=MICROSOFT,
        bits=4,
        block_size=four_bits.BLOCK,
        gather_axis=0,
        quantize_axis=1,
    )
    picked.outputs[0].shape = lookup.outputs[0].shape
    model.graph.insert_before(lookup, picked)
    return picked.outputs[0]
