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
class Group:
    """Layers that read the same input, as one weight: the rows of all, in order.

    ``names``          of the layers
    ``decomposition``  of their weight
    """

    names: tuple[str, ...]
    decomposition: Decomposition

    @property
    def parameters(self) -> int:
        """The number of parameters of the whole weight."""
        outputs, inputs = self.decomposition.shape
        return outputs * inputs


def decomposed(context: Context, network: Any, tokenizer: Any, rows: int) -> list[Group]:
    """Return the linear layers of the encoder, decomposed by their moments on calibration rows.

    Raises ModelError if all are factorized already.
    """
    layers = second_moments.eligible(network)
    if not layers:
        raise ModelError("factorize: all linear layers of the encoder are factorized already")
    network.to(context.device)
    sample = calibration_rows.sample(context, tokenizer, rows)
    batches = list(calibration_rows.batches(sample, context.device))
    loss = context.task.objective.summed_loss()
    names = second_moments.groups(network, layers, batches[0], loss)
    modules = [[layers[name] for name in group] for group in names]
    note = lambda done, total: context.progress(done, total, "moments")  # noqa: E731
    sums = second_moments.measure(network, modules, batches, loss, note)
    network.cpu()
    groups = []
    for group, linears, moments in zip(names, modules, sums, strict=True):
        weight = torch.cat([linear.weight.detach() for linear in linears])
        gradients = moments.mean_gradients
        whole = svd.decompose(weight, moments.inputs.cpu(), gradients.cpu())
        groups.append(Group(tuple(group), whole))
        context.progress(len(groups), len(names), "decomposition")
    return groups


def replace(network: Any, groups: list[Group], ranks: list[int | None]) -> dict[str, int]:
    """Replace the layers that have a rank by products in place; return their ranks by name."""
    by_name = {}
    for group, rank in zip(groups, ranks, strict=True):
        if rank is None:
            continue
        _replace(network, group, rank)
        by_name |= dict.fromkeys(group.names, rank)
    return by_name


@torch.no_grad()
def _replace(network: Any, group: Group, rank: int) -> None:
    """Replace the layers of a group by products that share their first factor."""
    narrow, tall = group.decomposition.factors(rank)
    linears = [network.get_submodule(name) for name in group.names]
    parts = tall.split([linear.out_features for linear in linears])
    pairs = []
    for linear, rows in zip(linears, parts, strict=True):
        bias = linear.bias is not None
        pair = checkpoint.factorized(linear.in_features, rank, linear.out_features, bias=bias)
        pair.up.weight.copy_(rows)
        if bias:
            pair.up.bias.copy_(linear.bias)
        pairs.append(pair)
    pairs[0].down.weight.copy_(narrow)
    for pair in pairs[1:]:
        checkpoint.share_down(pair, pairs[0])
    for name, pair in zip(group.names, pairs, strict=True):
        network.set_submodule(name, pair)


def errors(groups: list[Group], ranks: list[int | None]) -> list[Metric]:
    """Return how many layers are thin, and the mean and the largest relative error of theirs."""
    layers, thin, lost = 0, 0, list[float]()
    for group, rank in zip(groups, ranks, strict=True):
        layers += len(group.names)
        if rank is not None:
            thin += len(group.names)
            lost.append(group.decomposition.relative_error(rank))
    metrics = [Metric(name="factorized_layers", value=thin, n=layers)]
    if lost:
        for kind, value in (("mean", sum(lost) / len(lost)), ("worst", max(lost))):
            name = f"relative_error_{kind}"
            metrics.append(Metric(name=name, split="train", value=round(value, 6)))
    return metrics
