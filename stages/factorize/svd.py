"""Low rank: approximate a linear layer by a product of two thin ones.

The weight W is decomposed in a metric of its inputs and of its outputs: S = G^½·W·A^½, where A is
the second moment of the inputs, and G that of the loss's gradients at the outputs. G ⊗ A is the
Fisher information of W if both are independent (K-FAC, Martens and Grosse 2015, arXiv 1503.05671),
so each squared singular value of S is the loss that leaving it out is predicted to cost, the same
unit for all layers (GFWSVD, Chekalina et al. 2025, arXiv 2505.17974). With A alone, the outputs
would move least (SVD-LLM, Wang et al. 2024, arXiv 2403.07378), whether the loss depends on them or
not. Pure functions of tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rarefy.pipeline.terms.errors import ModelError

INPUT_DAMPING = 1e-6
"""Added to the diagonal of the inputs' moment, as a share of its mean: inputs that the calibration
rows never use keep a little weight, and the factor has an inverse."""
GRADIENT_DAMPING = 0.01
"""The same of the gradients' moment, which is known from few rows (``benchmarks/low_rank.py``)."""


@dataclass(frozen=True)
class Decomposition:
    """The singular value decomposition of S, in the coordinates of W.

    ``left``      (outputs, n): G^-½·U
    ``values``    (n,), the singular values, in falling order
    ``right``     (n, inputs): Vᵀ·A^-½, which makes left · diag(values) · right equal to W
    """

    left: Tensor
    values: Tensor
    right: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """The number of outputs and of inputs."""
        return len(self.left), self.right.shape[1]

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """Return the best product of a rank: down (rank, inputs) and up (outputs, rank)."""
        root = self.values[:rank].sqrt()
        down = root[:, None] * self.right[:rank]
        up = self.left[:, :rank] * root
        balance = (_norm(down) / _norm(up)).sqrt()  # gradients are tiny, which fp32 and Adam notice
        return down / balance, up * balance

    def relative_error(self, rank: int) -> float:
        """Return the norm of what a rank leaves out of S, as a share of that of S; 0 if S is 0."""
        energy = self.values.square()
        whole = energy.sum()
        if not whole > 0:
            return 0.0
        lost = energy[rank:].sum() / whole
        return float(lost.sqrt())


def decompose(
    weight: Tensor, inputs: Tensor, gradients: Tensor, damping: float = GRADIENT_DAMPING
) -> Decomposition:
    """Decompose a weight in the metric of its inputs and of the gradients at its outputs.

    The factor of the inputs' moment is that of its eigenvalues. It has no Cholesky factor where
    rounding made a small eigenvalue negative, which depends on the CPU. The gradients' moment is
    damped so much that it has one.

    Args:
        weight: (outputs, inputs).
        inputs: (inputs, inputs), Σ over tokens of x·xᵀ.
        gradients: (outputs, outputs), the mean over tokens of g·gᵀ.
        damping: added to the gradients' moment, as a share of the mean of its diagonal.
    """
    inputs = inputs.double()
    squares, basis = torch.linalg.eigh(inputs)
    ridge = INPUT_DAMPING * _mean(inputs)
    damped = squares.clamp(min=0) + ridge
    roots = damped.sqrt()
    lower = _cholesky(gradients, damping)
    upper = lower.T
    scaled = upper @ weight.double()
    scaled = scaled @ (basis * roots)
    turned, values, right = torch.linalg.svd(scaled, full_matrices=False)
    left = torch.linalg.solve_triangular(upper, turned, upper=True)
    right = (right / roots) @ basis.T
    return Decomposition(left, values, right)


def _cholesky(moment: Tensor, damping: float) -> Tensor:
    """Return the lower factor of a moment, damped by a share of its mean."""
    damped = moment.double().clone()
    ridge = damping * _mean(damped)
    diagonal = damped.diagonal()
    diagonal.add_(ridge)
    lower: Tensor = torch.linalg.cholesky(damped)
    return lower


def _norm(matrix: Tensor) -> Tensor:
    """Return a matrix's norm, or a tiny number if it is 0."""
    return matrix.norm().clamp(min=1e-150)


def _mean(moment: Tensor) -> Tensor:
    """Return the mean of a moment's diagonal, or a tiny number if it is 0."""
    smallest = torch.finfo(torch.float64).tiny
    return moment.diagonal().mean().clamp(min=smallest)


def choose_ranks(
    decompositions: Sequence[Decomposition], budget: int, *, multiple: int = 1
) -> list[int | None]:
    """Return each weight's rank within a budget; None keeps a weight whole.

    At rank r a weight costs r · (inputs + outputs) and loses Σ of the squared singular values
    beyond r. Kept whole, it costs inputs · outputs and loses nothing. For a given rate of loss to
    cost, each takes its cheapest option. Bisection finds the lowest rate whose total is within the
    budget (Lagrangian relaxation: optimal up to the slack of the last step).

    Args:
        decompositions: of the weights.
        budget: cost of all weights together, in parameters.
        multiple: ranks are multiples of this.

    Raises:
        ModelError: if even the least ranks are above the budget.
    """
    greatest = _greatest(decompositions)  # the rates below are for losses of about this size
    costs, losses = [], []
    for layer in decompositions:
        cost, loss = _options(layer, multiple)
        costs.append(cost)
        losses.append(loss / greatest)
    least = sum(float(cost.min()) for cost in costs)
    whole = sum(float(cost.max()) for cost in costs)
    if least > budget:
        raise ModelError(
            f"{budget / whole:.0%} is below the minimum; rank {multiple} in every layer "
            f"has {least / whole:.0%}"
        )

    def choose(rate: float) -> list[int]:
        places = []
        for cost, loss in zip(costs, losses, strict=True):
            total = loss + rate / whole * cost
            places.append(int(total.argmin()))
        return places

    def is_within(rate: float) -> bool:
        total = 0.0
        for cost, place in zip(costs, choose(rate), strict=True):
            total += float(cost[place])
        return total <= budget

    low, high = 0.0, 1e-12
    while not is_within(high) and high < 1e30:
        high *= 4
    for _ in range(60):
        middle = (low + high) / 2
        if is_within(middle):
            high = middle
        else:
            low = middle
    ranks: list[int | None] = []
    for place in choose(high):
        ranks.append(place * multiple if place else None)
    return ranks


def _greatest(decompositions: Sequence[Decomposition]) -> float:
    """Return the greatest loss of leaving all of a weight out; 1 if there is none."""
    greatest = 0.0
    for layer in decompositions:
        loss = float(layer.values.square().sum())
        greatest = max(greatest, loss)
    return greatest or 1.0


def _options(layer: Decomposition, multiple: int) -> tuple[Tensor, Tensor]:
    """Return parameters and loss of the options: whole, then each rank that saves parameters."""
    outputs, inputs = layer.shape
    whole, by_rank = outputs * inputs, outputs + inputs
    energy = layer.values.square().flip(0)
    beyond = energy.cumsum(0).flip(0)
    none = beyond.new_zeros(1)
    beyond = torch.cat([beyond, none])
    most = (whole - 1) // by_rank
    ranks = torch.arange(multiple, max(most + 1, multiple), multiple)
    cost = torch.cat([torch.tensor([whole]), ranks * by_rank])
    loss = torch.cat([none, beyond[ranks]])
    return cost.double(), loss.cpu()
