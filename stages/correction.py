"""Bias correction: what rounding takes from each output on average is added to it.

Nagel et al. 2019 (arXiv 1906.04721, section 4.2), and Banner et al. 2018 (arXiv 1810.05723).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

from pipeline.model.quantization import LinearPlan
from pipeline.stage.tasks.task import Row
from pipeline.terms.progress import Progress, silent
from pipeline.terms.vocabulary import Isa
from stages import ranges, sensitivity


def corrected(
    model: nn.Module,
    layers: Mapping[str, LinearPlan],
    rows: Sequence[Row],
    isa: Isa,
    progress: Progress = silent,
) -> dict[str, LinearPlan]:
    """Return int8 layers with the mean error of each output in ``rows``, token by token.

    Each layer is given exact inputs, so its correction does not depend on which others are int8.
    """
    sums: dict[str, torch.Tensor] = {}
    counts = dict.fromkeys(layers, 0)
    weights = {
        name: sensitivity.rounded_weight(sensitivity.linear(model, name), layer, isa)
        for name, layer in layers.items()
    }

    def see(name: str, values: torch.Tensor) -> None:
        rough = functional.linear(sensitivity.rounded_inputs(values, layers[name]), weights[name])
        error = functional.linear(values, sensitivity.linear(model, name).weight) - rough
        sums[name] = sums.get(name, 0) + error.flatten(0, -2).double().sum(dim=0)
        counts[name] += error[..., 0].numel()

    ranges.watch(model, list(layers), rows, see, progress, "correcting biases")
    return {
        name: layer.model_copy(update={"correction": _short(sums[name] / counts[name])})
        if name in sums  # some layers are reached by no row
        else layer
        for name, layer in layers.items()
    }


def _short(values: torch.Tensor) -> tuple[float, ...]:
    """Return numbers of three digits, which a plan holds in fewer bytes."""
    return tuple(float(f"{value:.3g}") for value in values.tolist())
