"""Half precision gives the same answers as full precision."""

from __future__ import annotations

import numpy as np
import pytest

from exporters.build import build
from pipeline.model.quantization import Plan
from pipeline.model.runtime import BundleModel
from tests.exporters.conftest import tiny
from tests.exporters.deployments import SPLIT, TASK, TEXTS, copy_with


@pytest.mark.slow
def test_half_precision_answers_as_full_precision_does(rows):
    """Test only the conversion, on the CPU; fp16 is faster on GPUs only."""
    from exporters import half, onnx, parity
    from exporters.passes import clean, first_token, mask, scale

    model = tiny("Bert")
    graph = onnx.export(model, onnx.INPUTS, TASK)
    expected = parity.cases(TASK, model, rows, onnx.INPUTS, 0)
    for rewrite in (mask, scale, first_token):
        rewrite.apply(graph)
        clean.apply(graph)
    converted = half.apply(graph)
    assert parity.check(TASK, converted, expected, "fp16", "half").agreement >= 0.95
    kinds = {value.dtype.name for value in converted.graph.initializers.values()}
    assert "FLOAT16" in kinds


@pytest.mark.gpu
def test_half_precision_runs_on_cuda(minilm, tmp_path):
    source = copy_with(minilm, Plan(precision="fp16"), tmp_path / "checkpoint")
    output = tmp_path / "bundle"
    output.mkdir()
    build(source, output, task=TASK, split=SPLIT, form="deploy", target_provider="cuda")
    answers = TASK.answers(BundleModel(output, provider="cuda").units(TEXTS))
    assert np.allclose(answers.sum(axis=1), 1)
