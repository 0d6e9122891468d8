"""Low rank: approximate a linear layer by the product of two thin ones.

Activation-aware truncated SVD: the weight is multiplied by the Cholesky factor of its inputs'
second moment before the decomposition. Truncation then removes what changes the layer's *output*
least, rather than its weight (SVD-LLM, Wang et al. 2024, arXiv 2403.07378). Each squared singular
value is exactly the squared output error, summed over calibration tokens, of leaving it out.
Pure functions of tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rarefy.pipeline.terms.errors import ModelError


@dataclass(frozen=True)
class Decomposition:
    """The singular value decomposition of W·L, where L·Lᵀ is the inputs' second moment.

    ``left``      (outputs, n), orthonormal columns
    ``values``    (n,), the singular values, in falling order
    ``right``     (n, inputs): Vᵀ·L⁻¹, which makes left · diag(values) · right equal to W
    """

    left: Tensor
    values: Tensor
    right: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """The layer's number of outputs and of inputs."""
        return len(self.left), self.right.shape[1]

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """Return the best product of a rank: down (rank, inputs) and up (outputs, rank)."""
        root = self.values[:rank].sqrt()
        down = root[:, None] * self.right[:rank]
        up = self.left[:, :rank] * root
        return down, up

    def relative_error(self, rank: int) -> float:
        """Return ‖(W − W_rank)·X‖ / ‖W·X‖ over the calibration tokens X; 0 if W·X is 0."""
        energy = self.values.square()
        whole = energy.sum()
        if not whole > 0:
            return 0.0
        lost = energy[rank:].sum() / whole
        return float(lost.sqrt())


def decompose(weight: Tensor, moment: Tensor, damping: float = 1e-6) -> Decomposition:
    """Decompose a layer's weight in the metric of its inputs.

    The moment's factor is that of its eigenvalues. It has no Cholesky factor where rounding made a
    small eigenvalue negative, which depends on the CPU.

    Args:
        weight: (outputs, inputs).
        moment: (inputs, inputs), Σ over tokens of x·xᵀ.
        damping: added to the moment's diagonal, as a share of its mean. Directions that the
            calibration rows never use keep a little weight, and the factor has an inverse.
    """
    weight, moment = weight.double(), moment.double()
    smallest = torch.finfo(torch.float64).tiny
    mean = moment.diagonal().mean().clamp(min=smallest)
    ridge = damping * mean
    squares, basis = torch.linalg.eigh(moment)
    roots = (squares.clamp(min=0) + ridge).sqrt()
    scaled = weight @ (basis * roots)
    left, values, right = torch.linalg.svd(scaled, full_matrices=False)
    inverse = (right / roots) @ basis.T
    return Decomposition(left, values, inverse)


def choose_ranks(
    decompositions: Sequence[Decomposition],
    weights: Sequence[float],
    budget: int,
    *,
    multiple: int = 1,
) -> list[int | None]:
    """Return each layer's rank within a budget of parameters; None keeps a layer whole.

    At rank r a layer costs r · (inputs + outputs) parameters and loses weight · Σ of the squared
    singular values beyond r. Kept whole, it costs inputs · outputs parameters and loses nothing.
    For a given price per parameter, each layer takes its cheapest option. Bisection finds the
    lowest price whose total is within the budget (Lagrangian relaxation: optimal up to the slack
    of the last step).

    Args:
        decompositions: the layers.
        weights: the cost of a unit of a layer's squared output error, relative to the others.
        budget: parameters of all layers together, without biases.
        multiple: ranks are multiples of this.

    Raises:
        ModelError: if even the least ranks are above the budget.
    """
    greatest = max(weights, default=0) or 1.0  # prices below are for losses of about this size
    options = []
    for layer, weight in zip(decompositions, weights, strict=True):
        options.append(_options(layer, weight / greatest, multiple))

    def choose(price: float) -> list[int]:
        return [int((loss + price * cost).argmin()) for cost, loss in options]

    def total(price: float) -> float:
        parameters = 0.0
        for place, (cost, _) in zip(choose(price), options, strict=True):
            parameters += float(cost[place])
        return parameters

    least = sum(float(cost.min()) for cost, _ in options)
    whole = sum(float(cost.max()) for cost, _ in options)
    if least > budget:
        raise ModelError(
            f"factorize.keep_weights: {budget / whole:.0%} is below the minimum; rank {multiple} "
            f"in every layer has {least / whole:.0%}"
        )
    low, high = 0.0, 1e-12
    while total(high) > budget and high < 1e30:
        high *= 4
    for _ in range(60):
        middle = (low + high) / 2
        if total(middle) <= budget:
            high = middle
        else:
            low = middle
    ranks: list[int | None] = []
    for place in choose(high):
        ranks.append(place * multiple if place else None)
    return ranks


def _options(layer: Decomposition, weight: float, multiple: int) -> tuple[Tensor, Tensor]:
    """Return cost and loss of a layer's options: whole, then each rank that saves parameters."""
    outputs, inputs = layer.shape
    whole, by_rank = outputs * inputs, outputs + inputs
    energy = layer.values.square().flip(0)
    beyond = energy.cumsum(0).flip(0)
    none = beyond.new_zeros(1)
    beyond = torch.cat([beyond, none])
    most = (whole - 1) // by_rank
    ranks = torch.arange(multiple, max(most + 1, multiple), multiple)
    cost = torch.cat([torch.tensor([whole]), ranks * by_rank])
    loss = weight * torch.cat([none, beyond[ranks]])
    return cost.double(), loss.cpu()


def thin_rows(table: Tensor, often: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """Approximate the rows of a table by a narrow table times a matrix.

    Args:
        table: (rows, columns).
        often: (rows,), how much an error in each row counts.
        rank: columns of the narrow table.

    Returns:
        The narrow table (rows, rank), the matrix (columns, rank), and the relative error: the
        root of the lost share of the weighted sum of squares.
    """
    wide = table.double()
    weighted = wide * often.double()[:, None]
    squares, basis = torch.linalg.eigh(weighted.T @ wide)
    squares = squares.clamp(min=0)
    up = basis[:, -rank:]
    lost = squares[:-rank].sum()
    error = (lost / squares.sum()).sqrt()
    return wide @ up, up, float(error)
