"""Embedding tables become int8 rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from rarefy.exporters.passes import embeddings
from rarefy.exporters.passes.graph import array, constant, node
from rarefy.pipeline.model.quantization import four_bits
from tests.exporters.small_graphs import finish, model, normal, run


def lookup(table: np.ndarray) -> ir.Model:
    made, (index,) = model({"index": (["n"], ir.DataType.INT64)})
    return finish(made, [node("Gather", [constant(made, "table", table), index], axis=0)])


@pytest.mark.parametrize("rows", [50, embeddings.WHOLE, embeddings.WHOLE + 1])
def test_a_row_comes_back_within_half_a_step_and_a_zero_row_as_zero(rows: int) -> None:
    table = normal(rows, 8)
    table[3] = 0
    graph = lookup(table)
    assert embeddings.apply(graph) == 1
    held = array(graph.graph.initializers["table.int8"])
    assert held.dtype == np.int8
    got = run(graph, index=np.arange(rows))
    half = np.abs(table).max(axis=1, keepdims=True) / 127 / 2
    assert (np.abs(got - table) <= half * 1.0001).all()
    assert (got[3] == 0).all()


@pytest.mark.parametrize(("rows", "at_load"), [(512, True), (2000, False)])
def test_a_small_table_is_converted_when_the_graph_is_loaded(
    rows: int, at_load: bool, tmp_path: Path
) -> None:
    graph = lookup(normal(rows, 8))
    embeddings.apply(graph)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    written = ir.to_proto(graph).SerializeToString()
    onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
    left = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert left == (["Gather"] if at_load else ["Gather", "Gather", "Cast", "Mul"])


@pytest.mark.parametrize("columns", [32, 64, 100, 312, 320, 384])
def test_in_int4_the_runtime_reads_what_was_rounded(columns: int) -> None:
    table = normal(embeddings.WHOLE + 1, columns)
    table[3] = 0
    graph = lookup(table)
    assert embeddings.apply(graph, "int4") == 1
    assert [each.op_type for each in graph.graph] == ["GatherBlockQuantized"]
    got = run(graph, index=np.arange(len(table)))
    np.testing.assert_allclose(got, four_bits.blocks(table).values(), rtol=0, atol=1e-6)
    assert (got[3] == 0).all()


@pytest.mark.parametrize(("rows", "columns"), [(embeddings.WHOLE, 64), (2000, 65)])
def test_in_int4_a_small_or_odd_table_stays_in_int8(rows: int, columns: int) -> None:
    graph = lookup(normal(rows, columns))
    assert embeddings.apply(graph, "int4") == 1
    assert "GatherBlockQuantized" not in [each.op_type for each in graph.graph]


def test_a_table_of_a_few_rows_gains_nothing() -> None:
    assert embeddings.apply(lookup(normal(2, 8))) == 0
