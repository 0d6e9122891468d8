"""Rescale what pruning left, layer by layer, so that each gives what it gave before.

Kwon et al. 2022 (arXiv 2204.09656), §4.3. In the order of the forward pass, the kept heads and
neurons get factors that bring the residual stream closest to the unpruned model's, in the sense
of least squares over calibration tokens; the factors are folded into the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from stages import fisher
from stages.calibration import without_labels
from stages.surgery import Part, bias_of, scale_units, weight_of

Batches = list[dict[str, Tensor]]


class _Enough(Exception):  # noqa: N818
    """The forward pass has come to the part that was asked for."""


def streams(model: Any, parts: list[Part], batches: Batches) -> list[list[Tensor]]:
    """Return, for each part and batch, the residual stream after the part: tokens × hidden."""
    found: list[list[Tensor]] = [[] for _ in parts]
    pending: dict[int, Tensor] = {}

    def enter(index: int) -> Callable[..., None]:
        return lambda _, inputs: pending.__setitem__(index, inputs[0])

    def leave(index: int) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            found[index].append((pending.pop(index) + output).flatten(0, 1))

        return hook

    handles = []
    for index, part in enumerate(parts):
        handles.append(part.source.register_forward_pre_hook(enter(index)))
        handles.append(part.sink.register_forward_hook(leave(index)))
    _run(model, batches, handles)
    return found


def rescale(
    model: Any,
    parts: list[Part],
    goals: list[list[Tensor]],
    batches: Batches,
    progress: Callable[[int, int], None],
) -> int:
    """Rescale the units of all parts in turn. Returns how many parts were abandoned.

    Args:
        model: the pruned model.
        parts: its parts in the order of the forward pass.
        goals: what :func:`streams` gave for the same parts and batches before pruning.
        batches: calibration rows.
        progress: called with parts done and in all.
    """
    abandoned = 0
    for index, part in enumerate(parts):
        gram, right = _equations(model, part, goals[index], batches)
        scales = fisher.solve_scales(gram.cpu(), right.cpu())
        if scales is None:
            abandoned += 1
        else:
            scale_units(part, scales)
        progress(index + 1, len(parts))
    return abandoned


def _equations(
    model: Any, part: Part, goals: list[Tensor], batches: Batches
) -> tuple[Tensor, Tensor]:
    """Return the normal equations of one part over the tokens of all batches."""
    weight, bias = weight_of(part.sink).detach(), bias_of(part.sink).detach()
    residuals: list[Tensor] = []
    units: list[Tensor] = []

    def enter(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        residuals.append(inputs[0].flatten(0, 1))

    def reach(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        units.append(inputs[0].flatten(0, 1))
        raise _Enough

    handles = [
        part.source.register_forward_pre_hook(enter),
        part.sink.register_forward_pre_hook(reach),
    ]
    _run(model, batches, handles)
    target = torch.cat(goals) - torch.cat(residuals) - bias
    return fisher.normal_equations(torch.cat(units), weight, target, part.width)


def _run(model: Any, batches: Batches, handles: list[Any]) -> None:
    try:
        with torch.no_grad():
            for batch in batches:
                try:
                    model(**without_labels(batch))
                except _Enough:
                    continue
    finally:
        for handle in handles:
            handle.remove()
