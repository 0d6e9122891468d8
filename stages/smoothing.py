"""Factors that move the range of large input channels into the weights.

Xiao et al. 2022, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language
Models" (arXiv 2211.10438).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from pipeline.stage.tasks.task import Row
from pipeline.terms.progress import Progress, silent
from stages import ranges

STRENGTH = 0.5
"""α of the paper: 0 leaves all range in the inputs, 1 moves all of it into the weights."""
LEAST = 1e-5


def factors(
    model: nn.Module,
    groups: Iterable[Sequence[str]],
    rows: Sequence[Row],
    progress: Progress = silent,
) -> dict[str, tuple[float, ...]]:
    """Return each layer's factors, one per input; the layers of a group read the same inputs.

    A channel's factor is (its largest input)^α / (its largest weight)^(1 − α) with α = 1/2, as a
    ratio to the geometric mean of all channels, which a scale takes away anyway.
    """
    members = [list(group) for group in groups]
    largest = _largest_inputs(model, [names[0] for names in members], rows, progress)
    found = {}
    for names in members:
        weights = [model.get_submodule(name).get_parameter("weight") for name in names]
        heaviest = torch.stack([weight.detach().abs().amax(dim=0) for weight in weights]).amax(0)
        powers = STRENGTH * largest[names[0]].clamp(min=LEAST).log()
        powers -= (1 - STRENGTH) * heaviest.clamp(min=LEAST).log()
        shared = tuple(_short(value) for value in (powers - powers.mean()).exp().tolist())
        found |= dict.fromkeys(names, shared)
    return found


def _short(value: float) -> float:
    """Return a number of four digits, which a plan holds in fewer bytes."""
    return float(f"{value:.4g}")


def _largest_inputs(
    model: nn.Module, names: Sequence[str], rows: Sequence[Row], progress: Progress
) -> Mapping[str, torch.Tensor]:
    """Return the largest magnitude of each input of each layer."""
    found: dict[str, torch.Tensor] = {}

    def see(name: str, values: torch.Tensor) -> None:
        largest = values.abs().flatten(0, -2).amax(dim=0)
        found[name] = torch.maximum(found[name], largest) if name in found else largest

    ranges.watch(model, names, rows, see, progress, "recording the largest inputs")
    return found


def groups(model: nn.Module, names: Sequence[str], row: Row) -> list[list[str]]:
    """Return the layers that read the same inputs together, such as queries, keys and values."""
    read: dict[str, torch.Tensor] = {}

    def see(name: str, values: torch.Tensor) -> None:
        read.setdefault(name, values)

    ranges.watch(model, names, [row], see)
    found: dict[int, list[str]] = {}
    for name, values in read.items():
        found.setdefault(values.data_ptr(), []).append(name)
    return list(found.values())
