"""Rescale the units that pruning kept, layer by layer, to reproduce the original outputs.

Kwon et al. 2022 (arXiv 2204.09656), §4.3. In the order of the forward pass, the kept heads and
neurons get factors that bring the residual stream as close as possible to the unpruned model's,
by least squares over calibration tokens. The factors are folded into the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.stage.tasks.head import inputs_of
from stages import fisher
from stages.surgery import Part, bias_of, scale_units, weight_of

Batch = dict[str, Tensor]


class _Enough(Exception):  # noqa: N818
    """Stops a forward pass once it has reached the wanted part."""


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
        gram, right = equations.totals()
        scales = fisher.solve_scales(gram.cpu(), right.cpu())
        if scales is None:
            abandoned += 1
        else:
            scale_units(part, scales)
        progress(index + 1, len(parts))
    return abandoned


def _equations(
    model: Any, part: Part, whole: Any, original: Part, batches: list[Batch]
) -> fisher.NormalEquations:
    """Accumulate one part's normal equations, whose target is the unpruned residual stream."""
    equations = fisher.NormalEquations(weight_of(part.sink).detach(), part.width)
    bias = bias_of(part.sink)
    shift = 0.0 if bias is None else bias.detach()
    for batch in batches:
        residual, units = _reach(model, part, batch)
        goal = _stream_after(whole, original, batch)
        equations.add(units, goal - residual - shift)
    return equations


def _reach(model: Any, part: Part, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the residual stream before a part (tokens × hidden) and its units (× columns)."""
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
    """Return the residual stream after a part: tokens × hidden."""
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
