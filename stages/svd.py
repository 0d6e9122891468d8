"""Low rank: a linear layer as the product of two thin ones, truncated where its inputs are weak.

Activation-aware truncated SVD: the weight is multiplied by the Cholesky factor of its inputs'
second moment before the decomposition, so that what is cut is what changes the layer's *output*
least, not its weight (SVD-LLM, Wang et al. 2024, arXiv 2403.07378). Each squared singular value is
then exactly the squared output error, summed over calibration tokens, of leaving it out.
Pure functions of tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Decomposition:
    """The singular value decomposition of W·L, where L·Lᵀ is the inputs' second moment.

    ``left``      outputs × n, orthonormal columns
    ``values``    n singular values, falling
    ``right``     n × inputs: Vᵀ·L⁻¹, so that left · diag(values) · right is W again
    """

    left: Tensor
    values: Tensor
    right: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs of the layer."""
        return len(self.left), self.right.shape[1]

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """Return down (rank × inputs) and up (outputs × rank) of the best product of that rank."""
        root = self.values[:rank].sqrt()
        return root[:, None] * self.right[:rank], self.left[:, :rank] * root

    def relative_error(self, rank: int) -> float:
        """Return ‖(W − W_rank)·X‖ / ‖W·X‖ over the calibration tokens X."""
        energy = self.values.square()
        return float((energy[rank:].sum() / energy.sum()).sqrt())


def decompose(weight: Tensor, moment: Tensor, damping: float = 1e-6) -> Decomposition:
    """Decompose a layer's weight in the metric of its inputs.

    Args:
        weight: outputs × inputs.
        moment: inputs × inputs, Σ over tokens of x·xᵀ.
        damping: added to the moment's diagonal, as a share of its mean: directions that the
            calibration never saw keep a little weight, and the Cholesky factor exists.
    """
    weight, moment = weight.double(), moment.double()
    ridge = damping * moment.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
    eye = torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
    lower = torch.linalg.cholesky(moment + ridge * eye)
    left, values, right = torch.linalg.svd(weight @ lower, full_matrices=False)
    right = torch.linalg.solve_triangular(lower, right, upper=False, left=False)
    return Decomposition(left, values, right)


def choose_ranks(
    decompositions: Sequence[Decomposition],
    weights: Sequence[float],
    budget: int,
    *,
    multiple: int = 1,
) -> list[int | None]:
    """Return each layer's rank, None for a layer that stays whole, under a budget of parameters.

    A layer kept at rank r costs r · (inputs + outputs) parameters and loses weight · Σ of the
    squared singular values beyond r; kept whole, inputs · outputs and nothing. For a price per
    parameter each layer takes what is cheapest for it; the lowest price whose total is within the
    budget is found by bisection (Lagrange relaxation: optimal up to the last step's slack).

    Args:
        decompositions: the layers.
        weights: what a unit of a layer's squared output error costs, relative to the others.
        budget: parameters of all layers together, biases aside.
        multiple: ranks are multiples of it.
    """
    options = [
        _options(layer, weight, multiple)
        for layer, weight in zip(decompositions, weights, strict=True)
    ]

    def choose(price: float) -> list[int]:
        return [int((loss + price * cost).argmin()) for cost, loss in options]

    def total(choice: Sequence[int]) -> float:
        return sum(float(cost[at]) for at, (cost, _) in zip(choice, options, strict=True))

    low, high = 0.0, 1e-12
    while total(choose(high)) > budget and high < 1e12:
        high *= 4
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if total(choose(middle)) <= budget else (middle, high)
    return [at * multiple if at else None for at in choose(high)]


def _options(layer: Decomposition, weight: float, multiple: int) -> tuple[Tensor, Tensor]:
    """Return cost and loss of a layer's options: first whole, then each rank that saves."""
    outputs, inputs = layer.shape
    beyond = layer.values.square().flip(0).cumsum(0).flip(0)
    beyond = torch.cat([beyond, beyond.new_zeros(1)])
    most = (inputs * outputs - 1) // (inputs + outputs)
    ranks = torch.arange(multiple, max(most + 1, multiple), multiple)
    cost = torch.cat([torch.tensor([inputs * outputs]), ranks * (inputs + outputs)]).double()
    return cost, weight * torch.cat([beyond.new_zeros(1), beyond[ranks]]).cpu()
