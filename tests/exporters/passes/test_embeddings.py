"""Embedding tables become int8 rows."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.passes import embeddings
from exporters.passes.graph import array, constant, node
from tests.exporters.small_graphs import finish, model, normal, run


def lookup(table: np.ndarray) -> ir.Model:
    made, (index,) = model({"index": (["n"], ir.DataType.INT64)})
    return finish(made, [node("Gather", [constant(made, "table", table), index], axis=0)])


def test_a_row_comes_back_within_half_a_step_and_a_zero_row_as_zero() -> None:
    table = normal(50, 8)
    table[3] = 0
    graph = lookup(table)
    assert embeddings.apply(graph) == 1
    held = array(graph.graph.initializers["table.int8"])
    assert held.dtype == np.int8
    got = run(graph, index=np.arange(50))
    half = np.abs(table).max(axis=1, keepdims=True) / 127 / 2
    assert (np.abs(got - table) <= half * 1.0001).all()
    assert (got[3] == 0).all()


def test_a_table_of_a_few_rows_gains_nothing() -> None:
    assert embeddings.apply(lookup(normal(2, 8))) == 0
