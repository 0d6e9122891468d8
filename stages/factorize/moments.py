"""What a decomposition weighs by: second moments of inputs, and of gradients at outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rarefy.pipeline.model import checkpoint
from rarefy.stages.training.parameters import Loss

Batch = dict[str, Tensor]
Call = tuple[Any, Tensor, Tensor]
"""A linear layer, and the input and the output of one call."""


@dataclass
class Moments:
    """Sums of some layers that read the same inputs, whose outputs are taken as one vector.

    ``inputs``     (inputs, inputs), Σ over tokens of x·xᵀ
    ``gradients``  (outputs, outputs), Σ over tokens of g·gᵀ, g of the row's own loss
    ``tokens``     their number
    """

    inputs: Tensor
    gradients: Tensor
    tokens: int = 0

    def add(self, inputs: Tensor, gradients: Tensor) -> None:
        """Add tokens; ``inputs``: (tokens, inputs), ``gradients``: (tokens, outputs)."""
        # float64, because a float32 sum over thousands of tokens may have negative eigenvalues.
        wide = inputs.double()
        self.inputs.addmm_(wide.T, wide)
        self.gradients.addmm_(gradients.T, gradients)
        self.tokens += len(inputs)

    @property
    def mean_gradients(self) -> Tensor:
        """The mean over tokens of g·gᵀ."""
        return self.gradients / max(1, self.tokens)


def eligible(network: Any) -> dict[str, Any]:
    """Return the encoder's linear layers by name, without layers that are factorized already."""
    candidates = set()
    for layer in checkpoint.encoder_layers(network):
        candidates.update(layer.modules())
    for module in list(candidates):
        if hasattr(module, "down"):
            candidates.difference_update(module.children())
    layers = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and module in candidates:
            layers[name] = module
    return layers


def groups(network: Any, layers: dict[str, Any], batch: Batch, loss: Loss) -> list[list[str]]:
    """Return the names of layers that read the same inputs in every call, one list for each input.

    They are query, key and value of most families, and the two halves of a gated layer.
    """
    with torch.no_grad(), _Watched(layers.values()) as calls:
        loss(network, batch)
        readers: dict[tuple[int, ...], list[str]] = {}
        for name, linear in layers.items():
            inputs = _inputs(linear, calls)
            names = readers.setdefault(inputs, [])
            names.append(name)
    return list(readers.values())


def _inputs(linear: Any, calls: list[Call]) -> tuple[int, ...]:
    """Return what tells the inputs of a layer's calls apart; of a layer without calls, itself."""
    seen = []
    for layer, source, _ in calls:
        if layer is linear:
            seen.append(id(source))
    if not seen:
        seen.append(id(linear))
    return tuple(seen)


def measure(
    network: Any,
    layers: list[list[Any]],
    batches: list[Batch],
    loss: Loss,
    progress: Callable[[int, int], None],
) -> list[Moments]:
    """Return the moments of groups of layers that read the same inputs.

    The gradient is that of each row's own loss, as in the empirical Fisher information.

    Args:
        network: in eval mode.
        layers: its linear layers, in groups.
        batches: unpadded rows with labels.
        loss: the loss, summed over the rows of a batch.
        progress: called with the number of batches done and the total.
    """
    moments, flat = [], []
    for group in layers:
        moments.append(_none(group))
        flat.extend(group)
    with _Watched(flat) as calls:
        for done, batch in enumerate(batches):
            total = loss(network, batch)
            outputs = [output for *_, output in calls]
            # DeBERTa may compute a projection that it does not use.
            gradients = torch.autograd.grad(
                total, outputs, allow_unused=True, materialize_grads=True
            )
            with torch.no_grad():
                for group, sums in zip(layers, moments, strict=True):
                    _add(sums, group, calls, gradients)
            calls.clear()
            progress(done + 1, len(batches))
    return moments


def _none(group: list[Any]) -> Moments:
    weight = group[0].weight.detach()
    columns = weight.shape[1]
    outputs = sum(linear.out_features for linear in group)
    inputs = weight.new_zeros(columns, columns, dtype=torch.double)
    gradients = weight.new_zeros(outputs, outputs)
    return Moments(inputs, gradients)


def _add(sums: Moments, group: list[Any], calls: list[Call], gradients: Iterable[Tensor]) -> None:
    """Add the tokens of a group's calls, which are as many of each layer, of the same inputs."""
    sources: list[list[Tensor]] = [[] for _ in group]
    arrived: list[list[Tensor]] = [[] for _ in group]
    for (linear, source, _), gradient in zip(calls, gradients, strict=True):
        if linear not in group:
            continue
        place = group.index(linear)
        tokens = source.flatten(0, -2)
        slopes = gradient.flatten(0, -2)
        sources[place].append(tokens)
        arrived[place].append(slopes)
    for tokens, *parts in zip(sources[0], *arrived, strict=True):
        together = torch.cat(parts, dim=1)
        sums.add(tokens, together)


class _Watched:
    """Notes the calls of linear layers inside a ``with`` block."""

    def __init__(self, layers: Iterable[Any]) -> None:
        self.layers = list(layers)
        self.calls: list[Call] = []

    def __enter__(self) -> list[Call]:
        self.handles = [linear.register_forward_hook(self._see) for linear in self.layers]
        return self.calls

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _see(self, linear: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        self.calls.append((linear, inputs[0], output))
        return output.clone()  # DeBERTa scales a projection in place, which hides its gradient
