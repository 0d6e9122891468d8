"""At the runtime's default level, sums and normalizations stay apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from rarefy.exporters import fusion, parity
from rarefy.exporters.passes import clean, mask, residual
from rarefy.exporters.passes.graph import constant, node
from tests.exporters.graphs import exported
from tests.exporters.small_graphs import finish, model, normal, run
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


def test_a_sum_of_sums_is_one_and_a_bias_stays_with_its_product():
    made, (tokens, types, places) = model(
        {name: (["n", 8], ir.DataType.FLOAT) for name in ("tokens", "types", "places")}
    )
    both = node("Add", [tokens, types])
    total = node("Add", [both.outputs[0], places])
    biased = node("Add", [total.outputs[0], constant(made, "bias", normal(8))])
    last = node("Add", [biased.outputs[0], places])
    scale = constant(made, "scale", normal(8))
    steps = [
        node("LayerNormalization", [each.outputs[0], scale], axis=-1) for each in (total, last)
    ]
    out = node("Mul", [step.outputs[0] for step in steps])
    graph = finish(made, [both, total, biased, last, *steps, out])
    feed = {name: normal(3, 8) for name in ("tokens", "types", "places")}
    before = run(graph, **feed)
    assert residual.apply(graph) == 2
    assert [len(each.inputs) for each in graph.graph if each.op_type == "Sum"] == [3, 2]
    np.testing.assert_allclose(run(graph, **feed), before, atol=1e-6)
