"""Importance and scales, checked against finite differences and least squares."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from pipeline.model import checkpoint
from stages import fisher, surgery
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
        heads, neurons = fisher.mask_gradients(model, parts, batch, TASK.objective.summed_loss())
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
        torch.testing.assert_close(fisher.magnitude(surgery.parts(model, unit)[1]), expected)


def test_ranking_is_global_with_a_floor_and_multiples():
    importance = [torch.arange(64.0) + 100, torch.arange(64.0)]
    assert fisher.keep_counts(importance, 64, least=1) == [63, 1]
    assert fisher.keep_counts(importance, 64, least=16, multiple=16) == [48, 16]
    assert fisher.keep_counts(importance, 128, least=16, multiple=16) == [64, 64]
    assert fisher.best(torch.tensor([3.0, 9.0, 1.0, 5.0]), 2).tolist() == [1, 3]


def test_rearranging_keeps_one_of_two_twins():
    # Units 0 and 1 are redundant: each looks cheaper than unit 2; removing both is costly.
    gradients = torch.tensor([[1.0, 1.0, 1.2, 9.0], [1.0, 1.0, -1.2, 9.0]])
    block = gradients.T @ gradients
    kept = fisher.rearrange(block, torch.tensor([2, 3]))
    assert 3 in kept.tolist()
    assert len({0, 1} & set(kept.tolist())) == 1


def test_scales_are_the_least_squares_solution():
    torch.manual_seed(0)
    inputs, weight = torch.randn(50, 12), torch.randn(6, 12)
    target = torch.randn(50, 6)
    columns = [
        (inputs[:, u * 3 : u * 3 + 3] @ weight[:, u * 3 : u * 3 + 3].T).flatten() for u in range(4)
    ]
    expected = torch.linalg.lstsq(torch.stack(columns, 1).double(), target.flatten().double())
    equations = fisher.NormalEquations(weight, 3)
    for start, end in ((0, 7), (7, 8), (8, 50)):  # batching does not change the sums
        equations.add(inputs[start:end], target[start:end])
    gram, right = equations.totals()
    torch.testing.assert_close(
        fisher.solve_scales(gram, right, damping=1e-12), expected.solution, atol=1e-6, rtol=1e-6
    )
    assert fisher.solve_scales(gram, 1000 * right) is None
