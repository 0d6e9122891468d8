"""What a decomposition weighs by: second moments of inputs, and of gradients at outputs."""

from __future__ import annotations

from collections.abc import Callable
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
    """Sums of a layer.

    ``inputs``     (inputs, inputs), Σ over tokens of x·xᵀ
    ``gradients``  (outputs, outputs), Σ over tokens of g·gᵀ, g of the row's own loss
    ``tokens``     their number
    """

    inputs: Tensor
    gradients: Tensor
    tokens: int = 0

    @classmethod
    def of(cls, linear: Any) -> Moments:
        """Return the moments of a layer that has seen no token yet."""
        weight = linear.weight.detach()
        outputs, inputs = weight.shape
        squares = weight.new_zeros(inputs, inputs, dtype=torch.double)
        return cls(squares, weight.new_zeros(outputs, outputs))

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


def measure(
    network: Any,
    layers: list[Any],
    batches: list[Batch],
    loss: Loss,
    progress: Callable[[int, int], None],
) -> list[Moments]:
    """Return the moments of linear layers.

    The gradient is that of each row's own loss, as in the empirical Fisher information.

    Args:
        network: in eval mode.
        layers: its linear layers.
        batches: unpadded rows with labels.
        loss: the loss, summed over the rows of a batch.
        progress: called with the number of batches done and the total.
    """
    moments = {linear: Moments.of(linear) for linear in layers}
    with _Watched(layers) as calls:
        for done, batch in enumerate(batches):
            total = loss(network, batch)
            outputs = [output for *_, output in calls]
            # DeBERTa may compute a projection that it does not use.
            gradients = torch.autograd.grad(
                total, outputs, allow_unused=True, materialize_grads=True
            )
            with torch.no_grad():
                for (linear, source, _), gradient in zip(calls, gradients, strict=True):
                    tokens = source.flatten(0, -2)
                    slopes = gradient.flatten(0, -2)
                    moments[linear].add(tokens, slopes)
            calls.clear()
            progress(done + 1, len(batches))
    return list(moments.values())


class _Watched:
    """Notes the calls of linear layers inside a ``with`` block."""

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers
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
