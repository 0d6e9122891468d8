"""Importance of heads and neurons: how much the loss depends on each, by one of several criteria.

Kwon et al. 2022, "A Fast Post-Training Pruning Framework for Transformers" (arXiv 2204.09656).
The units (heads or neurons) are multiplied by a mask of ones. The empirical Fisher information of
the mask approximates the curvature of the loss and estimates the cost of removing a set S of
units: ½ · Σ over rows of (Σ over S of the row's mask gradients)². Pure functions of tensors and
modules. A new criterion is one entry in ``CRITERIA``, which the recipe's ``method`` names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stages.parameters import Loss
    from stages.surgery import Part


@dataclass
class Sensitivity:
    """How sensitive the loss is to one part's units.

    ``fisher``  (units, units), Σ over rows of g gᵀ; g is a row's gradient with respect to the mask
    ``taylor``  (units,), Σ over rows of |g| (Michel et al. 2019, arXiv 1905.10650)
    """

    fisher: Tensor
    taylor: Tensor


def fisher_diagonal(part: Part, sensitivity: Sensitivity) -> Tensor:
    """Return the Fisher information of each unit's mask (Kwon et al., §4.1): (units,)."""
    return sensitivity.fisher.diagonal()


def taylor(part: Part, sensitivity: Sensitivity) -> Tensor:
    """Return the sum of the magnitudes of each unit's mask gradients: (units,)."""
    return sensitivity.taylor


def magnitude(part: Part, sensitivity: Sensitivity | None = None) -> Tensor:
    """Return the norm of each unit's input weights times that of its output weights: (units,).

    For heads the input weights are those of the value; query and key are left out. For gated
    neurons they are those of the gate, in which the output is linear.
    """
    from stages.surgery import weight_of

    last = part.producers[-1]
    weight = weight_of(last.linear).detach()
    matrices = weight.reshape(last.blocks, part.count, last.each, -1)
    into = matrices[-1, :, -1].norm(dim=1)
    columns = weight_of(part.sink).detach().T
    out = columns.reshape(part.count, -1).norm(dim=1)
    return (into * out).cpu()


@dataclass(frozen=True)
class Criterion:
    """A way to rank heads and neurons; the least important go first.

    Attributes:
        importance: returns the importance (units,) of a part's units from the part and, if
            ``needs_gradients``, from the loss's sensitivity to its units, which is None otherwise.
        needs_gradients: whether calibration rows are run forward and backward.
        corrects: whether the choice within each part is then corrected by ``rearrange``.
    """

    importance: Callable[[Part, Any], Tensor]
    needs_gradients: bool = True
    corrects: bool = False


CRITERIA: Mapping[str, Criterion] = {
    "fisher": Criterion(fisher_diagonal, corrects=True),
    "taylor": Criterion(taylor),
    "magnitude": Criterion(magnitude, needs_gradients=False),
}
"""The criteria by their names in a recipe, the default first."""


def sensitivities(
    model: Any, parts: Sequence[Part], batches: Iterable[dict[str, Tensor]], loss: Loss
) -> list[Sensitivity]:
    """Run labelled batches forward and backward, and accumulate the mask's gradients per row.

    The mask has one row for each row of the batch, so one backward pass gives every row's own
    gradient.

    Args:
        model: in eval mode; its parameters get no gradients.
        parts: the parts whose units are masked.
        batches: unpadded rows with labels.
        loss: the loss, summed over the rows of a batch.

    Returns:
        The sensitivity to the units of each part.
    """
    import torch

    sums = []
    for part in parts:
        block = torch.zeros(part.count, part.count)
        sums.append(Sensitivity(block, torch.zeros(part.count)))
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    for batch in batches:
        gradients = mask_gradients(model, parts, batch, loss)
        for sensitivity, gradient in zip(sums, gradients, strict=True):
            sensitivity.fisher += (gradient.T @ gradient).cpu()
            sensitivity.taylor += gradient.abs().sum(0).cpu()
    for parameter in trainable:
        parameter.requires_grad_(True)
    return sums


def mask_gradients(
    model: Any, parts: Sequence[Part], batch: dict[str, Tensor], loss: Loss
) -> list[Tensor]:
    """Return the gradient of each row's loss with respect to its masks: (rows, units) per part."""
    import torch

    ids = batch["input_ids"]
    masks, handles = [], []
    for part in parts:
        mask = torch.ones(len(ids), part.count, device=ids.device, requires_grad=True)
        masks.append(mask)
        handles.append(part.sink.register_forward_pre_hook(_multiply_by(mask, part.width)))
    try:
        return list(torch.autograd.grad(loss(model, batch), masks))
    finally:
        for handle in handles:
            handle.remove()


def _multiply_by(mask: Tensor, width: int) -> Any:
    """Return a hook that multiplies inputs (rows, tokens, units · width) by a mask."""

    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        columns = mask.repeat_interleave(width, dim=1)
        return (inputs[0] * columns[:, None], *inputs[1:])

    return hook


def rearrange(fisher: Tensor, retained: Tensor) -> Tensor:
    """Swap removed units for retained ones if that lowers the cost of the whole removed set.

    The ranking rates units one by one, so two redundant units both look unimportant. Each removed
    unit is restored once, and the unit whose removal then costs least (possibly the same one) is
    removed instead: Kwon et al., §4.2, with the full Fisher block of the layer.

    Args:
        fisher: (units, units), the Fisher block of a part.
        retained: indices of the units that the ranking retains.

    Returns:
        The indices of as many units, in rising order.
    """
    import torch

    fisher = fisher.double()
    gone = torch.ones(len(fisher), dtype=torch.bool)
    gone[retained] = False
    diagonal = fisher.diagonal()
    together = fisher[gone].sum(0)
    for unit in gone.nonzero().flatten().tolist():
        gone[unit] = False
        together -= fisher[unit]
        cost = diagonal + 2 * together
        cheapest = int(cost.masked_fill(gone, torch.inf).argmin())
        gone[cheapest] = True
        together += fisher[cheapest]
    return (~gone).nonzero().flatten()
