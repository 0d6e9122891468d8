"""Which units to remove: Fisher importance, mask search, and least-squares rescaling.

Kwon et al. 2022, "A Fast Post-Training Pruning Framework for Transformers" (arXiv 2204.09656).
The units (heads or neurons) are multiplied by a mask of ones. The empirical Fisher information of
the mask approximates the curvature of the loss and estimates the cost of removing a set S of
units: ½ · Σ over rows of (Σ over S of the row's mask gradients)². Pure functions of tensors and
modules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rarefy.stages.surgery.units import Part, weight_of
from rarefy.stages.training.parameters import Loss

GREATEST_SCALE = 10.0
"""A layer is not rescaled if a factor exceeds this: it would fit noise (Kwon et al., §4.3)."""


@dataclass
class Sensitivity:
    """How sensitive the loss is to one part's units.

    ``fisher``  units × units, Σ over rows of g gᵀ; g is a row's gradient with respect to the mask
    ``taylor``  units, Σ over rows of |g| (Michel et al. 2019, arXiv 1905.10650)
    """

    fisher: Tensor
    taylor: Tensor


def sensitivities(
    model: Any, parts: Sequence[Part], batches: Iterable[dict[str, Tensor]], loss: Loss
) -> list[Sensitivity]:
    """Run labelled batches forward and backward, and accumulate the mask's gradients per row.

    ``loss`` is summed over the rows of a batch.

    The mask has one row for each row of the batch, so one backward pass gives every row's own
    gradient. The model must be in eval mode; its parameters get no gradients.
    """
    sums = [
        Sensitivity(torch.zeros(part.count, part.count), torch.zeros(part.count)) for part in parts
    ]
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    for batch in batches:
        for sensitivity, gradient in zip(
            sums, mask_gradients(model, parts, batch, loss), strict=True
        ):
            sensitivity.fisher += (gradient.T @ gradient).cpu()
            sensitivity.taylor += gradient.abs().sum(0).cpu()
    for parameter in wanted:
        parameter.requires_grad_(True)
    return sums


def mask_gradients(
    model: Any, parts: Sequence[Part], batch: dict[str, Tensor], loss: Loss
) -> list[Tensor]:
    """Return the gradient of each row's loss by its masks: rows × units per part."""
    rows, device = len(batch["input_ids"]), batch["input_ids"].device
    masks = [torch.ones(rows, part.count, device=device, requires_grad=True) for part in parts]
    handles = [
        part.sink.register_forward_pre_hook(_laid_over(mask, part.width))
        for part, mask in zip(parts, masks, strict=True)
    ]
    try:
        return list(torch.autograd.grad(loss(model, batch), masks))
    finally:
        for handle in handles:
            handle.remove()


def _laid_over(mask: Tensor, width: int) -> Any:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # rows × tokens × (units · width)
        return (inputs[0] * mask.repeat_interleave(width, dim=1)[:, None], *inputs[1:])

    return hook


def magnitude(part: Part) -> Tensor:
    """Return the norm of each unit's input weights times that of its output weights.

    For heads the input weights are those of the value; query and key are left out. For gated
    neurons they are those of the gate, in which the output is linear.
    """
    last = part.producers[-1]
    weight = weight_of(last.linear).detach()
    matrices = weight.reshape(last.blocks, part.count, last.each, -1)
    into = matrices[-1, :, -1].norm(dim=1)
    out = weight_of(part.sink).detach().T.reshape(part.count, -1).norm(dim=1)
    return (into * out).cpu()


def keep_counts(
    importance: Sequence[Tensor], places: int, *, least: int, multiple: int = 1
) -> list[int]:
    """Return how many units each part keeps when a global ranking keeps ``places`` of them.

    Every part keeps its ``least`` best units; the others compete across all parts. Counts are then
    rounded to multiples of ``multiple``.
    """
    ranked: list[tuple[float, int]] = []
    counts = []
    for index, values in enumerate(importance):
        ordered = sorted(values.tolist(), reverse=True)
        counts.append(min(least, len(ordered)))
        ranked += [(value, index) for value in ordered[counts[-1] :]]
    ranked.sort(key=lambda entry: (-entry[0], entry[1]))
    for _, index in ranked[: max(0, places - sum(counts))]:
        counts[index] += 1
    return [
        _rounded(count, multiple, len(values))
        for count, values in zip(counts, importance, strict=True)
    ]


def _rounded(count: int, multiple: int, greatest: int) -> int:
    if count == greatest:
        return count
    return min(greatest, max(1, round(count / multiple)) * multiple)


def best(importance: Tensor, count: int) -> Tensor:
    """Return the indices of the ``count`` most important units, in rising order."""
    return importance.argsort(descending=True, stable=True)[:count].sort().values


def rearrange(fisher: Tensor, kept: Tensor) -> Tensor:
    """Swap removed units for kept ones if that lowers the cost of the whole removed set.

    The ranking rates units one by one, so two redundant units both look unimportant. Each removed
    unit is restored once, and the unit whose removal then costs least (possibly the same one) is
    removed instead: Kwon et al., §4.2, with the full Fisher block of the layer.
    """
    fisher = fisher.double()
    gone = torch.ones(len(fisher), dtype=torch.bool)
    gone[kept] = False
    diagonal = fisher.diagonal()
    together = fisher[gone].sum(0)
    for unit in gone.nonzero().flatten().tolist():
        gone[unit] = False
        together -= fisher[unit]
        cost = (diagonal + 2 * together).masked_fill(gone, torch.inf)
        instead = int(cost.argmin())
        gone[instead] = True
        together += fisher[instead]
    return (~gone).nonzero().flatten()


class NormalEquations:
    """The normal equations G·scales = r for a part's scales, accumulated over tokens.

    The units' outputs add up to the layer's: target ≈ Σ scale_u · inputs_u · weight_uᵀ. With one
    equation for every token and output, G = (XᵀX) ∘ (WᵀW), summed over each unit's columns, and
    r is Σ over tokens of X ∘ (target·W). Both are sums over tokens and can be built in batches.

    Args:
        weight: outputs × (units · width), W.
        width: columns per unit.
    """

    def __init__(self, weight: Tensor, width: int) -> None:
        self.weight, self.width = weight.double(), width
        columns = weight.shape[1]
        self.moment = torch.zeros(columns, columns, dtype=torch.double, device=weight.device)
        self.right = torch.zeros(columns, dtype=torch.double, device=weight.device)

    def add(self, inputs: Tensor, target: Tensor) -> None:
        """Add tokens; ``inputs`` are tokens × (units · width), ``target`` tokens × outputs."""
        inputs, target = inputs.double(), target.double()
        self.moment.addmm_(inputs.T, inputs)
        self.right += (inputs * (target @ self.weight)).sum(0)

    def totals(self) -> tuple[Tensor, Tensor]:
        """Return G (units × units) and r (units)."""
        units = len(self.right) // self.width
        gram = self.moment * (self.weight.T @ self.weight)
        by_unit = gram.reshape(units, self.width, units, self.width).sum((1, 3))
        return by_unit, self.right.reshape(units, -1).sum(1)


def solve_scales(gram: Tensor, right: Tensor, damping: float = 0.01) -> Tensor | None:
    """Return the scales, regularized towards 1.

    Returns None if a scale exceeds GREATEST_SCALE or the equations are singular.
    """
    ones = torch.ones_like(right)
    ridge = damping * gram.diagonal().mean() * torch.eye(len(right), dtype=gram.dtype)
    factor, failed = torch.linalg.cholesky_ex(gram + ridge)
    if failed:
        return None
    scales = ones + torch.cholesky_solve((right - gram @ ones)[:, None], factor)[:, 0]
    return scales if (scales.abs() <= GREATEST_SCALE).all() else None
