"""The layers that become thin: measured, decomposed, and replaced by products at chosen ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.stage import Context
from rarefy.pipeline.store.artifact import Metric
from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.factorize import moments as second_moments
from rarefy.stages.factorize import svd
from rarefy.stages.factorize.svd import Decomposition
from rarefy.stages.training import calibration_rows

RANKS = 16
"""Ranks are multiples of this, because int8 kernels work on tiles of 16 and pad the rest."""


@dataclass(frozen=True)
class Layer:
    """A linear layer: its name in the network, and the decomposition of its weight."""

    name: str
    decomposition: Decomposition

    @property
    def parameters(self) -> int:
        """The number of parameters of the whole weight."""
        outputs, inputs = self.decomposition.shape
        return outputs * inputs


def decomposed(context: Context, network: Any, tokenizer: Any, rows: int) -> list[Layer]:
    """Return the linear layers of the encoder, decomposed by their moments on calibration rows.

    Raises ModelError if all are factorized already.
    """
    linears = second_moments.eligible(network)
    if not linears:
        raise ModelError("factorize: all linear layers of the encoder are factorized already")
    network.to(context.device)
    sample = calibration_rows.sample(context, tokenizer, rows)
    batches = list(calibration_rows.batches(sample, context.device))
    loss = context.task.objective.summed_loss()
    note = lambda done, total: context.progress(done, total, "moments")  # noqa: E731
    sums = second_moments.measure(network, list(linears.values()), batches, loss, note)
    network.cpu()
    layers = []
    for (name, linear), moments in zip(linears.items(), sums, strict=True):
        gradients = moments.mean_gradients
        weight = linear.weight.detach()
        decomposition = svd.decompose(weight, moments.inputs.cpu(), gradients.cpu())
        layers.append(Layer(name, decomposition))
        context.progress(len(layers), len(linears), "decomposition")
    return layers


def ranks_within(layers: list[Layer], share: float) -> list[int | None]:
    """Return the rank of each layer, None for one that stays whole, for a share of the weights.

    Raises ModelError if even the least ranks have more.
    """
    whole = sum(layer.parameters for layer in layers)
    decompositions = [layer.decomposition for layer in layers]
    return svd.choose_ranks(decompositions, int(share * whole), multiple=RANKS)


@torch.no_grad()
def replace(network: Any, layers: list[Layer], ranks: list[int | None]) -> dict[str, int]:
    """Replace the layers that have a rank by products in place; return their ranks by name."""
    by_name = {}
    for layer, rank in zip(layers, ranks, strict=True):
        if rank is None:
            continue
        linear = network.get_submodule(layer.name)
        bias = linear.bias is not None
        pair = checkpoint.factorized(linear.in_features, rank, linear.out_features, bias=bias)
        down, up = layer.decomposition.factors(rank)
        pair.down.weight.copy_(down)
        pair.up.weight.copy_(up)
        if bias:
            pair.up.bias.copy_(linear.bias)
        network.set_submodule(layer.name, pair)
        by_name[layer.name] = rank
    return by_name


def errors(layers: list[Layer], ranks: list[int | None]) -> list[Metric]:
    """Return how many layers are thin, and the mean and the largest relative error of theirs."""
    lost = []
    for layer, rank in zip(layers, ranks, strict=True):
        if rank is not None:
            lost.append(layer.decomposition.relative_error(rank))
    metrics = [Metric(name="factorized_layers", value=len(lost), n=len(layers))]
    if lost:
        for kind, value in (("mean", sum(lost) / len(lost)), ("worst", max(lost))):
            name = f"relative_error_{kind}"
            metrics.append(Metric(name=name, split="train", value=round(value, 6)))
    return metrics
