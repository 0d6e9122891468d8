"""Weights in 4 bits, rounded so that a layer's outputs move least: GPTQ.

Frantar et al. 2023 (arXiv 2210.17323), without reordering. The error of each rounded column is made
up for by the columns that are still to be rounded, as far as their inputs correlate with its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rarefy.exporters.passes.packed import takes_int4
from rarefy.pipeline.model.quantization import four_bits
from rarefy.pipeline.model.quantization.four_bits import BLOCK, Blocks
from rarefy.pipeline.tasks.task import Row
from rarefy.pipeline.terms.progress import Progress, silent
from rarefy.stages.quantization import ranges
from rarefy.stages.quantization.sensitivity import linear

DAMPING = 0.01
"""Added to the diagonal of the second moments, as a share of its mean (the paper's 1%)."""
HELD = 2**30
"""The most bytes of second moments that are held at once; more layers take more passes."""


@torch.no_grad()
def rounded_layers(
    model: nn.Module, names: Sequence[str], rows: Sequence[Row], progress: Progress = silent
) -> dict[str, Blocks]:
    """Return the weights of linear layers (outputs, inputs) in 4 bits, for the inputs in rows.

    Those that a bundle cannot store in 4 bits are left out, and those that no row reaches.
    """
    names = [name for name in names if takes_int4(linear(model, name).out_features)]
    blocks: dict[str, Blocks] = {}
    for part in _parts(model, names):
        moments: dict[str, Tensor] = {}

        def see(name: str, values: Tensor, moments: dict[str, Tensor] = moments) -> None:
            tokens = values.flatten(0, -2).double()
            if name not in moments:
                width = tokens.shape[-1]
                moments[name] = torch.zeros(width, width, dtype=torch.float64)
            moments[name].addmm_(tokens.T, tokens)

        ranges.watch(model, part, rows, see, progress, "inputs")
        for name in part:
            progress(len(blocks), len(names), f"rounding {name} to 4 bits")
            if name in moments:
                weight = linear(model, name).weight.detach()
                blocks[name] = rounded(weight, moments.pop(name))
    return blocks


def rounded(weight: Tensor, moment: Tensor) -> Blocks:
    """Round a weight to 4 bits.

    A block's steps are chosen when its first column is reached, from what its columns are by then.

    Args:
        weight: (outputs, inputs).
        moment: (inputs, inputs), Σ over tokens of x·xᵀ in float64.
    """
    left, columns = weight.double().clone(), weight.shape[1]
    spread = _inverse_root(moment)
    codes = np.empty(weight.shape, np.uint8)
    scales, zeros = [], []
    for start in range(0, columns, BLOCK):
        end = min(start + BLOCK, columns)
        scale, zero = four_bits.steps(left[:, start:end].float().numpy())
        scales.append(scale)
        zeros.append(zero)
        step = torch.from_numpy(scale).double()
        middle = torch.from_numpy(zero).double()
        errors = torch.empty(len(left), end - start, dtype=torch.float64)
        for place in range(start, end):
            column, row = left[:, place], spread[place]
            code = (column / step).round() + middle
            code = code.clamp(0, four_bits.LARGEST)
            codes[:, place] = code.numpy()
            difference = column - (code - middle) * step
            error = difference / row[place]
            errors[:, place - start] = error
            following = slice(place + 1, end)
            left[:, following] -= error[:, None] * row[following]
        left[:, end:] -= errors @ spread[start:end, end:]
    return Blocks(codes, np.stack(scales, axis=1), np.stack(zeros, axis=1))


def _inverse_root(moment: Tensor) -> Tensor:
    """Return the upper Cholesky factor of the inverse of the damped second moments."""
    damped = moment.clone()
    diagonal = damped.diagonal()
    mean = diagonal.mean().clamp(min=1e-12)  # for inputs that are always 0
    diagonal += DAMPING * mean
    root = torch.linalg.cholesky(damped)
    inverse = torch.cholesky_inverse(root)
    return torch.linalg.cholesky(inverse, upper=True)


def _parts(model: nn.Module, names: Sequence[str]) -> Iterator[list[str]]:
    """Yield layers in order, as many at once as have moments of at most ``HELD`` bytes."""
    part, size = list[str](), 0
    for name in names:
        inputs = linear(model, name).in_features
        moment = 8 * inputs**2
        if part and size + moment > HELD:
            yield part
            part, size = [], 0
        part.append(name)
        size += moment
    if part:
        yield part
