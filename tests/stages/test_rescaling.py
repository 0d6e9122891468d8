"""What is left of a layer makes up for what was removed."""

from __future__ import annotations

import copy

import torch

from stages import rescaling, surgery
from tests.stages.classifiers import classifier, masked_logits


def test_rescaling_makes_up_for_a_removed_twin():
    """Two neurons that are copies: with one gone, the other must count twice."""
    model = classifier("bert")
    layer = model.bert.encoder.layer[2]
    with torch.no_grad():
        layer.intermediate.dense.weight[1] = layer.intermediate.dense.weight[0]
        layer.intermediate.dense.bias[1] = layer.intermediate.dense.bias[0]
        layer.output.dense.weight[:, 1] = layer.output.dense.weight[:, 0]
    whole = masked_logits(copy.deepcopy(model), {})
    part = surgery.parts(model, "neurons")[2:]
    rows = torch.randint(5, 29, (64, 8), generator=torch.Generator().manual_seed(0))
    batches = [{"input_ids": rows, "attention_mask": torch.ones_like(rows)}]
    goals = rescaling.streams(model, part, batches)
    surgery.keep_units(part[0], torch.tensor([0, *range(2, 64)]))
    pruned = masked_logits(model, {})
    assert rescaling.rescale(model, part, goals, batches, lambda *_: None) == 0
    scaled = masked_logits(model, {})
    assert (scaled - whole).abs().max() < 0.2 * (pruned - whole).abs().max()
