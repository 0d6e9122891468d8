"""At the runtime's default level, sums and normalizations stay apart."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from exporters import fusion, parity
from exporters.passes import clean, mask, residual
from tests.exporters.graphs import exported
from tests.models import TASK


def at_default_level(graph: ir.Model, folder: Path) -> set[str]:
    """Return the operators that the runtime makes of a graph at its default level."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    written = ir.to_proto(graph).SerializeToString()
    onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
    return {node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node}


@pytest.mark.parametrize("name", ["Bert", "MPNet"])
def test_nothing_is_fused_with_a_normalization(name, rows, tmp_path):
    graph, expected = exported(name, rows)
    mask.apply(graph, 64)
    clean.apply(graph)
    assert "SkipLayerNormalization" in at_default_level(graph, tmp_path)  # so the test can fail
    sums = residual.apply(graph)
    assert sums == fusion.histogram(graph)["Sum"] >= 4
    assert "SkipLayerNormalization" not in at_default_level(graph, tmp_path)
    assert parity.check(TASK, graph, expected, "fp32", "residual").max_difference < 1e-5
    assert residual.apply(graph) == 0
