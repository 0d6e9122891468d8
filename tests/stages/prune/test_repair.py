"""The weights that read the remaining units make up for the removed ones."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from rarefy.stages.prune import repair
from rarefy.stages.surgery import units as surgery
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


def repaired(pruned: Any, whole: Any, batches: list[dict[str, torch.Tensor]]) -> int:
    parts = [surgery.parts(model, "neurons")[2:] for model in (pruned, whole)]
    return repair.repair(pruned, parts[0], whole, parts[1], batches, lambda *_: None)


def test_a_removed_twin_is_made_up_for():
    """If one of two copies is removed, the other must count twice."""
    whole, pruned = twins()
    before = masked_logits(pruned, {})
    assert repaired(pruned, whole, unpadded(64, (8,))) == 0
    goal, after = masked_logits(whole, {}), masked_logits(pruned, {})
    assert (after - goal).abs().max() < 0.05 * (before - goal).abs().max()


def test_batch_by_batch_is_the_least_squares_solution_over_all_tokens():
    """Checked against one system of all tokens, solved directly: ‖X·W − Y‖² + ridge·‖W − W₀‖²."""
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
    start = torch.cat([sink.weight.detach(), sink.bias.detach()[:, None]], 1).T.double()
    design = torch.cat([inputs[1], torch.ones_like(inputs[1][:, :1])], 1)
    solutions = []
    for share in repair.RIDGES:
        ridge = share * design.square().sum(0).mean()
        stacked = torch.cat([design, ridge.sqrt() * torch.eye(64, dtype=torch.double)])
        wanted = torch.cat([target[0], ridge.sqrt() * start])
        solutions.append(torch.linalg.lstsq(stacked, wanted).solution)
    assert repaired(pruned, whole, batches) == 0
    solved = torch.cat([sink.weight.detach(), sink.bias.detach()[:, None]], 1).T.double()
    errors = [float((solved - solution).abs().max()) for solution in solutions]
    assert min(errors) < 1e-5


@pytest.mark.parametrize("kind", ["roberta-prelayernorm", "modernbert", "deberta", "deberta-v3"])
def test_other_families_are_repaired_to_their_residual_stream(kind):
    """A unit that was twice as large before is read with twice the weight, also after a norm."""
    whole = classifier(kind, "eager")
    batches = unpadded(64, (6, 9))
    for unit in ("heads", "neurons"):
        halved = copy.deepcopy(whole)
        part, original = (surgery.parts(model, unit)[1] for model in (halved, whole))
        with torch.no_grad():
            part.sink.weight[:, : part.width] *= 0.5
        before = (part.sink.weight - original.sink.weight).norm()
        assert repair.repair(halved, [part], whole, [original], batches, lambda *_: None) == 0
        after = (part.sink.weight - original.sink.weight).norm()
        assert after < 0.25 * before


def test_a_factorized_reader_takes_the_nearest_first_factor():
    _, pruned = twins()
    part = surgery.parts(pruned, "neurons")[2]
    dense = part.sink
    factors = torch.linalg.svd(dense.weight.detach(), full_matrices=False)
    low_rank = torch.nn.Module()
    low_rank.down = torch.nn.Linear(63, 8, bias=False)
    low_rank.up = torch.nn.Linear(8, 32)
    goal = torch.randn(32, 63)
    bias = torch.randn(32)
    with torch.no_grad():
        low_rank.up.weight.copy_(factors.U[:, :8])
    parent, name = part.consumer
    setattr(parent, name, low_rank)
    surgery.replace_reader(part, goal, bias)
    error = goal - low_rank.up.weight @ low_rank.down.weight
    # What is left over is orthogonal to all that the second factor can express.
    torch.testing.assert_close(factors.U[:, :8].T @ error, torch.zeros(8, 63), atol=1e-5, rtol=0)
    assert torch.equal(low_rank.up.bias, bias)


def test_what_does_not_help_rows_that_are_held_out_is_left():
    """Targets that have nothing to do with the inputs cannot be learned, only memorized."""
    torch.manual_seed(0)
    weight = torch.zeros(40, 3, dtype=torch.double)
    fitted, held_out = repair.NormalEquations(40, 3), repair.NormalEquations(40, 3)
    fitted.add(torch.randn(41, 40), torch.randn(41, 3))
    held_out.add(torch.randn(400, 40), torch.randn(400, 3))
    assert repair.solve(weight, fitted, held_out) is None


def test_the_error_is_that_of_the_tokens():
    torch.manual_seed(0)
    inputs, target, weight = torch.randn(20, 5), torch.randn(20, 3), torch.randn(5, 3)
    equations = repair.NormalEquations(5, 3)
    for start, end in ((0, 7), (7, 8), (8, 20)):  # batching does not change the sums
        equations.add(inputs[start:end], target[start:end])
    expected = (inputs @ weight - target).square().sum() - target.square().sum()
    assert equations.error(weight.double()) == pytest.approx(float(expected), rel=1e-5)


def test_what_a_factorized_reader_cannot_express_does_not_move_its_bias():
    """The target leaves the range of the second factor, and the units have a mean."""
    torch.manual_seed(0)
    columns, outputs, rank = 24, 16, 4
    up = torch.randn(outputs, rank, dtype=torch.double)
    start = torch.cat([(up @ torch.randn(rank, columns).double()).T, torch.zeros(1, outputs)])
    goal = torch.randn(columns, outputs)
    sums = []
    for tokens in (400, 100):
        inputs = torch.cat([torch.rand(tokens, columns) + 1, torch.ones(tokens, 1)], 1)
        equations = repair.NormalEquations(columns + 1, outputs, constant=True)
        equations.add(inputs, inputs[:, :-1] @ goal)
        sums.append(equations)
    fitted, held_out = sums
    solution = repair.solve(start, fitted, held_out, up)
    assert solution is not None
    assert held_out.error(solution) < held_out.error(start)
    expressed = solution[:-1].T
    torch.testing.assert_close(up @ torch.linalg.pinv(up) @ expressed, expressed)
    # The bias is the best for what is expressed: the mean error over all tokens is zero.
    total = fitted + held_out
    rest = total.cross[-1] - total.moment[-1] @ solution
    torch.testing.assert_close(rest, torch.zeros_like(rest), atol=1e-6, rtol=0)
