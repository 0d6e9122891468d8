"""The remaining units of a layer compensate for the removed ones."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from stages import rescaling, surgery
from tests.stages.classifiers import classifier, masked_logits


def twins() -> tuple[Any, Any]:
    """A model in which two neurons are identical, and the same model without one of them."""
    model = classifier("bert")
    layer = model.bert.encoder.layer[2]
    with torch.no_grad():
        layer.intermediate.dense.weight[1] = layer.intermediate.dense.weight[0]
        layer.intermediate.dense.bias[1] = layer.intermediate.dense.bias[0]
        layer.output.dense.weight[:, 1] = layer.output.dense.weight[:, 0]
    pruned = copy.deepcopy(model)
    surgery.keep_units(surgery.parts(pruned, "neurons")[2], torch.tensor([0, *range(2, 64)]))
    return model, pruned


def unpadded(count: int, lengths: tuple[int, ...]) -> list[dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(0)
    rows = [torch.randint(5, 29, (count, length), generator=draw) for length in lengths]
    return [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in rows]


def rescale(pruned, whole, batches) -> int:
    parts = [surgery.parts(model, "neurons")[2:] for model in (pruned, whole)]
    return rescaling.rescale(pruned, parts[0], whole, parts[1], batches, lambda *_: None)


def test_rescaling_makes_up_for_a_removed_twin():
    """If one of two copies is removed, the other must count twice."""
    whole, pruned = twins()
    before = masked_logits(pruned, {})
    assert rescale(pruned, whole, unpadded(64, (8,))) == 0
    goal, after = masked_logits(whole, {}), masked_logits(pruned, {})
    assert (after - goal).abs().max() < 0.2 * (before - goal).abs().max()


def test_rescaling_batch_by_batch_is_the_least_squares_solution_over_all_tokens():
    """Checked against one system of all tokens, solved directly: ‖A·s - t‖² + ridge·‖s - 1‖²."""
    whole, pruned = twins()
    batches = unpadded(16, (5, 8, 11, 8))
    inputs, target = [], []
    for model in (whole, pruned):
        layer, seen = model.bert.encoder.layer[2], []
        handle = layer.output.dense.register_forward_hook(
            lambda _, x, y, seen=seen: seen.append((x[0].flatten(0, 1), y.flatten(0, 1)))
        )
        with torch.no_grad():
            for batch in batches:
                model(**batch)
        handle.remove()
        inputs.append(torch.cat([x for x, _ in seen]).double())
        target.append(torch.cat([y for _, y in seen]).double())
    sink = pruned.bert.encoder.layer[2].output.dense
    weight, bias = sink.weight.detach().double(), sink.bias.detach().double()
    # tokens × outputs × units: what each neuron adds to each output
    design = (inputs[1][:, None, :] * weight[None]).flatten(0, 1)
    ridge = 0.01 * design.square().sum(0).mean()
    stacked = torch.cat([design, ridge.sqrt() * torch.eye(63, dtype=torch.double)])
    wanted = torch.cat([(target[0] - bias).flatten(), ridge.sqrt() * torch.ones(63)])
    scales = torch.linalg.lstsq(stacked, wanted).solution
    assert rescale(pruned, whole, batches) == 0
    torch.testing.assert_close(sink.weight.detach().double(), weight * scales, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["roberta-prelayernorm", "modernbert", "deberta", "deberta-v3"])
def test_heads_and_neurons_of_other_families_are_rescaled_to_their_residual_stream(kind):
    """A unit that was twice as large before is scaled by two, where a norm comes first as well."""
    whole = classifier(kind, "eager")
    batches = unpadded(64, (6, 9))
    for unit in ("heads", "neurons"):
        halved = copy.deepcopy(whole)
        part, original = (surgery.parts(model, unit)[1] for model in (halved, whole))
        surgery.scale_units(part, torch.tensor([0.5] + [1.0] * (part.count - 1)))
        assert rescaling.rescale(halved, [part], whole, [original], batches, lambda *_: None) == 0
        ratio = part.sink.weight / original.sink.weight
        torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=0.1, rtol=0)
        assert (ratio[:, : part.width] - 1).abs().max() < 0.1


def test_scales_are_the_least_squares_solution():
    torch.manual_seed(0)
    inputs, weight = torch.randn(50, 12), torch.randn(6, 12)
    target = torch.randn(50, 6)
    columns = [
        (inputs[:, u * 3 : u * 3 + 3] @ weight[:, u * 3 : u * 3 + 3].T).flatten() for u in range(4)
    ]
    expected = torch.linalg.lstsq(torch.stack(columns, 1).double(), target.flatten().double())
    equations = rescaling.NormalEquations(weight, 3)
    for start, end in ((0, 7), (7, 8), (8, 50)):  # batching does not change the sums
        equations.add(inputs[start:end], target[start:end])
    gram, correlation = equations.totals()
    torch.testing.assert_close(
        rescaling.solve_scales(gram, correlation, damping=1e-12),
        expected.solution,
        atol=1e-6,
        rtol=1e-6,
    )
    assert rescaling.solve_scales(gram, 1000 * correlation) is None
