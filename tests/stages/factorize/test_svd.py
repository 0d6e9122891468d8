"""Truncated decompositions are optimal for their rank, and ranks are spent where they save most."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.factorize import svd


@pytest.fixture
def layer():
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(12, 20, generator=draw)
    mixing = torch.randn(20, 20, generator=draw) * torch.logspace(0, -2, 20)
    tokens = torch.randn(500, 20, generator=draw) @ mixing.T
    return weight, tokens


def test_error_on_the_tokens_is_the_best_any_rank_can_reach(layer):
    weight, tokens = layer
    decomposition = svd.decompose(weight, tokens.T @ tokens, torch.eye(12))
    outputs = (tokens @ weight.T).double()
    for rank in (1, 4, 9):
        down, up = decomposition.factors(rank)
        error = outputs - tokens.double() @ down.T @ up.T
        # Eckart and Young: no product of that rank is closer to the outputs.
        best = np.linalg.svd(outputs.numpy(), compute_uv=False)[rank:]
        assert float(error.norm()) == pytest.approx(float(np.linalg.norm(best)), rel=1e-4)
        assert decomposition.relative_error(rank) == pytest.approx(
            float(error.norm() / outputs.norm()), rel=1e-3
        )
    down, up = decomposition.factors(12)
    torch.testing.assert_close((up @ down).float(), weight, atol=1e-4, rtol=0)


def test_no_product_of_a_rank_loses_less_in_the_metric_of_both_sides(layer):
    weight, tokens = layer
    draw = torch.Generator().manual_seed(1)
    slopes = torch.randn(300, 12, generator=draw) * torch.logspace(0, -2, 12)
    gradients = slopes.T @ slopes / 300
    moment = tokens.T @ tokens
    decomposition = svd.decompose(weight, moment, gradients, damping=1e-9)

    def loss(product):
        """The predicted loss: the sum over tokens and slopes of (g·ΔW·x)², by its definition."""
        moved = slopes.double() @ (weight - product).double() @ tokens.double().T
        return float(moved.square().sum() / 300)

    for rank in (1, 4, 9):
        down, up = decomposition.factors(rank)
        least = loss(up @ down)
        assert least == pytest.approx(float(decomposition.values[rank:].square().sum()), rel=1e-3)
        other_down, other_up = svd.decompose(weight, moment, torch.eye(12)).factors(rank)
        assert least < loss(other_up @ other_down)
        nudged = up + 1e-3 * torch.randn(up.shape, generator=draw, dtype=torch.double)
        assert least < loss(nudged @ down)


def test_a_direction_without_a_gradient_is_kept_by_the_damping_alone():
    gradients = torch.zeros(4, 4)
    gradients[0, 0] = 1.0
    decomposition = svd.decompose(torch.eye(4), torch.eye(4), gradients)
    down, up = decomposition.factors(1)
    product = up @ down
    assert float(product[0, 0]) == pytest.approx(1.0, rel=1e-5)
    assert float(product[1:].norm()) < 1e-5
    down, up = decomposition.factors(4)
    torch.testing.assert_close((up @ down).float(), torch.eye(4), atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1.0])
def test_factors_are_of_one_size_however_small_gradients_are(layer, scale):
    weight, tokens = layer
    decomposition = svd.decompose(weight, tokens.T @ tokens, scale * torch.eye(12))
    down, up = (factor.float() for factor in decomposition.factors(12))
    assert float(down.norm()) == pytest.approx(float(up.norm()), rel=1e-4)
    torch.testing.assert_close(up @ down, weight, atol=1e-3, rtol=0)


def test_nothing_is_lost_of_a_layer_of_zeros():
    nothing = svd.decompose(torch.zeros(12, 20), torch.eye(20), torch.zeros(12, 12))
    assert nothing.relative_error(1) == 0
    assert all(part.isfinite().all() for part in nothing.factors(1))


def test_inputs_in_a_small_space_need_no_more_rank():
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(16, 32, generator=draw)
    tokens = torch.randn(200, 3, generator=draw) @ torch.randn(3, 32, generator=draw)
    assert svd.decompose(weight, tokens.T @ tokens, torch.eye(16)).relative_error(3) < 1e-2
    plain = torch.linalg.svdvals(weight)
    assert float(plain[3:].norm() / plain.norm()) > 0.7  # the weight alone does not show it


def decomposition_of(values, outputs=64, inputs=64):
    values = torch.tensor(values, dtype=torch.float64)
    return svd.Decomposition(torch.eye(outputs), values, torch.eye(inputs))


def test_ranks_go_where_they_save_the_most_loss():
    steep = decomposition_of([100.0] * 2 + [0.01] * 62)
    flat = decomposition_of([1.0] * 64)
    ranks = svd.choose_ranks([steep, flat], budget=64 * 64 + 2 * 128)
    assert ranks == [2, None]
    faint = decomposition_of([1e-3] * 64)
    again = svd.choose_ranks([flat, faint], budget=64 * 64 + 128)
    assert again[0] is None
    assert again[1] is not None


def test_a_layer_that_is_too_small_to_save_anything_stays_whole():
    small, large = decomposition_of([1.0] * 8, 8, 8), decomposition_of([1.0] * 64)
    ranks = svd.choose_ranks([small, large], budget=64 + 64 * 32, multiple=16)
    assert ranks == [None, 16]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_ranks_are_as_good_as_all_others_within_the_budget(share):
    draw = torch.Generator().manual_seed(1)
    layers = [
        decomposition_of((torch.rand(8, generator=draw) + 0.1).sort(descending=True).values, 8, 8)
        for _ in range(3)
    ]
    budget = int(3 * 64 * share)
    options = [None, 1, 2, 3]  # rank 4 costs as much as the whole layer

    def cost(ranks):
        return sum(64 if rank is None else 16 * rank for rank in ranks)

    def loss(ranks):
        return sum(
            0.0 if rank is None else float(layer.values[rank:].square().sum())
            for layer, rank in zip(layers, ranks, strict=True)
        )

    chosen = svd.choose_ranks(layers, budget)
    assert cost(chosen) <= budget
    every = [(a, b, c) for a in options for b in options for c in options]
    assert loss(chosen) <= min(loss(ranks) for ranks in every if cost(ranks) <= cost(chosen)) + 1e-9


def test_the_scale_of_the_losses_does_not_matter():
    chosen = []
    for scale in (1.0, 1e10, 1e-10):
        steps = decomposition_of([scale * value for value in [4.0] * 4 + [1.0] * 60])
        flat = decomposition_of([scale * 3.0] * 64)
        chosen.append(svd.choose_ranks([steps, flat], 64 * 64))
    assert chosen[0] == chosen[1] == chosen[2] != [None, None]


def test_a_budget_below_the_least_ranks_is_refused():
    with pytest.raises(
        ModelError, match=r"30% is below the minimum; rank 16 in every layer has 50%"
    ):
        svd.choose_ranks([decomposition_of([1.0] * 64)], int(0.3 * 64 * 64), multiple=16)
