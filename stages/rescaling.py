"""Rescale the remaining units after pruning, layer by layer, to reproduce the original outputs.

Kwon et al. 2022 (arXiv 2204.09656), §4.3. In the order of the forward pass, the remaining heads
and neurons get factors that bring the residual stream as close as possible to the unpruned model's,
by least squares over calibration tokens. The factors are folded into the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.stage.tasks.head import inputs_of
from stages.surgery import Part, bias_of, scale_units, weight_of

Batch = dict[str, Tensor]

GREATEST_SCALE = 10.0
"""A layer is not rescaled if a factor exceeds this: it would fit noise (Kwon et al., §4.3)."""


class _Enough(Exception):  # noqa: N818
    """Stops a forward pass once it has reached the part that is rescaled."""


def rescale(
    model: Any,
    parts: list[Part],
    whole: Any,
    whole_parts: list[Part],
    batches: list[Batch],
    progress: Callable[[int, int], None],
) -> int:
    """Rescale the units of all parts in turn; return how many parts could not be rescaled.

    Only the sums of the normal equations are kept between batches, so memory does not grow with
    the number of rows. The cost is that the unpruned model runs as often as the pruned one.

    Args:
        model: the pruned model.
        parts: its parts in the order of the forward pass.
        whole: the model before pruning.
        whole_parts: its parts, in the same order.
        batches: calibration rows, unpadded.
        progress: called with the number of parts done and the total.
    """
    abandoned = 0
    for index, (part, original) in enumerate(zip(parts, whole_parts, strict=True)):
        equations = _equations(model, part, whole, original, batches)
        gram, correlation = equations.totals()
        scales = solve_scales(gram.cpu(), correlation.cpu())
        if scales is None:
            abandoned += 1
        else:
            scale_units(part, scales)
        progress(index + 1, len(parts))
    return abandoned


class NormalEquations:
    """The normal equations G·scales = r for a part's scales, accumulated over tokens.

    The units' outputs add up to the layer's: target ≈ Σ scale_u · inputs_u · weight_uᵀ. With one
    equation for every token and output, G = (XᵀX) ∘ (WᵀW), summed over each unit's columns, and
    r is Σ over tokens of X ∘ (target·W). Both are sums over tokens and can be built in batches.

    Args:
        weight: (outputs, units · width), W.
        width: columns per unit.
    """

    def __init__(self, weight: Tensor, width: int) -> None:
        self.weight, self.width = weight.double(), width
        columns = weight.shape[1]
        self.moment = torch.zeros(columns, columns, dtype=torch.double, device=weight.device)
        self.correlation = torch.zeros(columns, dtype=torch.double, device=weight.device)

    def add(self, inputs: Tensor, target: Tensor) -> None:
        """Add tokens; ``inputs``: (tokens, units · width), ``target``: (tokens, outputs)."""
        inputs, target = inputs.double(), target.double()
        self.moment.addmm_(inputs.T, inputs)
        self.correlation += (inputs * (target @ self.weight)).sum(0)

    def totals(self) -> tuple[Tensor, Tensor]:
        """Return G (units, units) and r (units,)."""
        width = self.width
        units = len(self.correlation) // width
        gram = self.moment * (self.weight.T @ self.weight)
        by_unit = gram.reshape(units, width, units, width)
        correlation = self.correlation.reshape(units, width)
        return by_unit.sum((1, 3)), correlation.sum(1)


def solve_scales(gram: Tensor, correlation: Tensor, damping: float = 0.01) -> Tensor | None:
    """Return the scales (units,), regularized towards 1.

    Returns None if a scale exceeds GREATEST_SCALE or the equations are singular.

    Args:
        gram: (units, units), G of the normal equations.
        correlation: (units,), r of the normal equations.
        damping: weight of the regularization, as a share of the mean of G's diagonal.
    """
    ones = torch.ones_like(correlation)
    identity = torch.eye(len(correlation), dtype=gram.dtype)
    ridge = damping * gram.diagonal().mean() * identity
    factor, failed = torch.linalg.cholesky_ex(gram + ridge)
    if failed:
        return None
    residual = correlation - gram @ ones
    scales = ones + torch.cholesky_solve(residual[:, None], factor)[:, 0]
    if not (scales.abs() <= GREATEST_SCALE).all():
        return None
    return scales


def _equations(
    model: Any, part: Part, whole: Any, original: Part, batches: list[Batch]
) -> NormalEquations:
    """Accumulate one part's normal equations, whose target is the unpruned residual stream."""
    equations = NormalEquations(weight_of(part.sink).detach(), part.width)
    bias = bias_of(part.sink)
    shift = 0.0 if bias is None else bias.detach()
    for batch in batches:
        residual, units = _reach(model, part, batch)
        goal = _stream_after(whole, original, batch)
        equations.add(units, goal - residual - shift)
    return equations


def _reach(model: Any, part: Part, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the residual stream before a part (tokens, hidden) and its units (tokens, columns)."""
    seen: list[Tensor] = []

    def enter(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].flatten(0, 1))

    def reach(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].flatten(0, 1))
        raise _Enough

    _run(
        model,
        batch,
        part.entry.register_forward_pre_hook(enter),
        part.sink.register_forward_pre_hook(reach),
    )
    residual, units = seen
    return residual, units


def _stream_after(model: Any, part: Part, batch: Batch) -> Tensor:
    """Return the residual stream after a part: (tokens, hidden)."""
    seen: list[Tensor] = []

    def enter(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].flatten(0, 1))

    def leave(_: nn.Module, __: Any, output: Tensor) -> None:
        seen.append(output.flatten(0, 1))
        raise _Enough

    _run(
        model,
        batch,
        part.entry.register_forward_pre_hook(enter),
        part.sink.register_forward_hook(leave),
    )
    residual, output = seen
    return residual + output


def _run(model: Any, batch: Batch, *handles: Any) -> None:
    try:
        with torch.no_grad(), suppress(_Enough):
            model(**inputs_of(batch))
    finally:
        for handle in handles:
            handle.remove()
