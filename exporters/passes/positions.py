"""Cut tables of position embeddings to the positions that the longest row reaches.

The bundle's tokenizer truncates rows, so a table of 512 positions has rows that nothing reads. The
rows that are left keep their places: RoBERTa's positions start after the padding id. A longer row
makes the runtime fail; it does not give a wrong answer.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from exporters.passes.evaluate import evaluate
from exporters.passes.graph import array, behind, consumers, scalar

LEAST_ROWS = 16  # smaller tables, such as the two token types, are no positions


def apply(model: ir.Model, longest: int = 512) -> int:
    """Cut each table whose index depends on places only. Returns the number of rows cut.

    ``longest``: the number of tokens in the longest row that the graph will be given.
    """
    tables = dict.fromkeys(
        lookup.inputs[0] for lookup in model.graph if lookup.op_type == "Gather" and lookup.inputs
    )
    count = 0
    for table in tables:
        held = array(table)
        if table is None or held is None or held.ndim != 2 or len(held) < LEAST_ROWS:
            continue
        needed = _rows_read(model, table, longest)
        if needed is None or needed >= len(held):
            continue
        table.const_value = ir.tensor(np.ascontiguousarray(held[:needed]), name=table.name)
        table.shape = ir.Shape([needed, held.shape[1]])
        count += len(held) - needed
    return count


def _rows_read(model: ir.Model, table: ir.Value, longest: int) -> int | None:
    """Return how many of the first rows are read; None if tokens and not places decide it."""
    indices = []
    compared: set[int] = set()
    for reader in consumers(table):
        if reader.op_type != "Gather" or reader.attributes.get_int("axis", 0) != 0:
            return None
        index = reader.inputs[1]
        rows = _compared_ids(index) if index is not None else None
        if index is None or rows is None:
            return None
        indices.append(index)
        compared |= rows
    if table.is_graph_output() or len(compared) > 1:
        return None
    needed = 0
    for ids in _id_rows(compared, longest):
        feed = {str(value.name): np.ones_like(ids) for value in model.graph.inputs}
        [arrays] = evaluate(model, indices, [feed | {"input_ids": ids}])
        if any(places.min() < 0 for places in arrays):
            return None
        needed = max(needed, *(int(places.max()) + 1 for places in arrays))
    return needed


def _id_rows(compared: set[int], longest: int) -> list[NDArray[np.int64]]:
    """Return rows of the full length: without the id that is compared, and partly made of it."""
    other = next(number for number in (0, 1) if number not in compared)
    rows = [np.full((1, longest), other, dtype=np.int64)]
    for number in compared:
        mixed = rows[0].copy()
        mixed[:, ::3] = number
        rows += [mixed, np.full_like(mixed, number)]
    return rows


def _compared_ids(index: ir.Value) -> set[int] | None:
    """Return the ids (of padding) that an index compares tokens with, empty for a plain range.

    None if the index depends on tokens or masks in another way, or is a constant.
    """
    compared: set[int] = set()

    def past(source: ir.Node) -> bool:
        read = source.inputs[0]
        if source.op_type == "Equal" and read is not None and read.name == "input_ids":
            number = scalar(source.inputs[1])
            if number is not None:
                compared.add(int(number))
                return False
        return source.op_type != "Shape"

    if any(value.is_graph_input() for value in behind(index, past)):
        return None
    if index.producer() is not None:
        return compared
    return None
