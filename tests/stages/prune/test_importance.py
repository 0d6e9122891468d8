"""The importance of heads and neurons, checked against finite differences and the weights."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from rarefy.pipeline.model import checkpoint
from rarefy.stages.prune import Prune, importance
from rarefy.stages.surgery import units as surgery
from tests.models import TASK
from tests.stages.classifiers import IDS, MASK, PATHS, classifier, masked_logits


@pytest.mark.parametrize(
    ("kind", "step", "tolerance"),
    [
        ("bert", 1e-5, 1e-7),
        ("deberta-v3", 1e-5, 1e-7),
        ("modernbert", 1e-2, 1e-5),  # computes norms or softmax in float32
        ("deberta", 1e-2, 1e-5),
    ],
)
def test_mask_gradients_are_those_of_finite_differences(kind, step, tolerance):
    model = classifier(kind, "eager").double()
    parts = [surgery.parts(model, "heads")[1], surgery.parts(model, "neurons")[0]]
    labels = torch.tensor([0, 1])
    batch = {"input_ids": IDS, "attention_mask": MASK, "labels": labels}
    torch.set_default_dtype(torch.float64)
    try:
        heads, neurons = importance.mask_gradients(
            model, parts, batch, TASK.objective.summed_loss()
        )
    finally:
        torch.set_default_dtype(torch.float32)

    def loss(name, mask):
        logits = masked_logits(model, {name: mask})
        return functional.cross_entropy(logits, labels, reduction="none")

    for gradient, name, size, width, unit in (
        (heads, PATHS[kind][0].format(1), 4, 8, 2),
        (neurons, PATHS[kind][1].format(0), 64, 1, 17),
    ):
        change = torch.zeros(size, dtype=torch.float64)
        change[unit] = step
        up = loss(name, (1 + change).repeat_interleave(width))
        down = loss(name, (1 - change).repeat_interleave(width))
        slope = (up - down) / (2 * step)
        assert slope.abs().min() > 10 * tolerance
        torch.testing.assert_close(gradient[:, unit], slope, atol=tolerance, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "makers"),
    [
        ("bert", ("attention.self.value", "intermediate.dense")),
        ("deberta", ("attention.self.in_proj", "intermediate.dense")),
        ("deberta-v3", ("attention.self.value_proj", "intermediate.dense")),
        ("modernbert", ("attn.Wqkv", "mlp.Wi")),
    ],
)
def test_magnitude_is_that_of_value_and_gate_wherever_they_are_in_the_matrix(kind, makers):
    model = classifier(kind, "eager")
    layer = checkpoint.encoder_layers(model)[1]
    value, gate = (layer.get_submodule(name).weight.detach() for name in makers)
    if kind == "modernbert":
        value, gate = value.chunk(3)[2], gate.chunk(2)[1]
    if kind == "deberta":  # transformers: view(heads, 3 · size), then chunk(3)
        value = value.view(4, 3, 8, 32)[:, 2]
    for unit, into, width in (("heads", value, 8), ("neurons", gate, 1)):
        out = model.get_submodule(PATHS[kind][unit == "neurons"].format(1)).weight.detach()
        count = out.shape[1] // width
        expected = into.reshape(count, -1).norm(dim=1)
        expected = expected * out.reshape(32, count, width).norm(dim=(0, 2))
        torch.testing.assert_close(importance.magnitude(surgery.parts(model, unit)[1]), expected)


def test_rearranging_keeps_one_of_two_twins():
    # Units 0 and 1 are redundant: each looks cheaper than unit 2; removing both is costly.
    gradients = torch.tensor([[1.0, 1.0, 1.2, 9.0], [1.0, 1.0, -1.2, 9.0]])
    block = gradients.T @ gradients
    kept = importance.rearrange(block, torch.tensor([2, 3]))
    assert 3 in kept.tolist()
    assert len({0, 1} & set(kept.tolist())) == 1


def test_a_recipe_offers_the_criteria_of_the_table():
    choices = Prune.model_json_schema()["properties"]["method"]["enum"]
    assert choices == list(importance.CRITERIA)
    with pytest.raises(ValidationError, match="method"):
        Prune(remove_heads=0.5, method="unheard-of")
