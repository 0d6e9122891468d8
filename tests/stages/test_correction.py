"""Bias correction: the mean of each output is that of the exact layer."""

from __future__ import annotations

import torch

from pipeline.model import checkpoint
from pipeline.model.quantization import LinearPlan
from stages import correction, ranges, sensitivity

NAME = "bert.encoder.layer.0.intermediate.dense"


def mean_outputs(network, rows):
    """The mean of each output over tokens, by a hook of the test's own."""
    seen = []
    hook = network.get_submodule(NAME).register_forward_hook(lambda m, x, y: seen.append(y))
    with torch.no_grad():
        for row in rows:
            network(input_ids=torch.tensor([row["input_ids"]]))
    hook.remove()
    return torch.cat([each.flatten(0, -2) for each in seen]).mean(dim=0)


def test_the_mean_that_rounding_moved_is_restored(tuned, make_context):
    network = checkpoint.load(tuned.directory)
    tokenizer = checkpoint.load_tokenizer(tuned.directory)
    rows = ranges.rows(make_context(), tokenizer, "train", 32)
    rough = {NAME: LinearPlan(precision="int8", low=-0.5, high=0.5)}  # it cuts large inputs off
    better = correction.corrected(network, rough, rows, "avx2")
    exact = mean_outputs(network, rows)
    with sensitivity.quantized(network, rough, "avx2"):
        error = (mean_outputs(network, rows) - exact).abs().max()
    with sensitivity.quantized(network, better, "avx2"):
        left = (mean_outputs(network, rows) - exact).abs().max()
    assert error > 0.01
    assert left < error / 50
