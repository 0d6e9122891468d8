"""Physically remove heads, neurons and layers from a model: smaller matrices, not masks.

Heads and feed-forward neurons are both *units*: some linear layers produce them and one linear
layer consumes them. A head is ``head size`` columns wide, a neuron one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.model import architectures, checkpoint
from pipeline.terms.errors import ModelError

Unit = Literal["heads", "neurons"]


@dataclass(frozen=True)
class Part:
    """The units of one kind in one layer.

    ``producers``  (parent, attribute) of the linear layers whose outputs are the units; all of
                   them read the residual stream
    ``consumer``   (parent, attribute) of the linear layer that reads the units
    ``width``      columns per unit
    """

    producers: tuple[tuple[nn.Module, str], ...]
    consumer: tuple[nn.Module, str]
    width: int

    @property
    def source(self) -> nn.Module:
        """The first producer, whose input is the residual stream."""
        parent, name = self.producers[0]
        return getattr(parent, name)

    @property
    def sink(self) -> nn.Module:
        parent, name = self.consumer
        return getattr(parent, name)

    @property
    def count(self) -> int:
        return architectures.out_features(self.source) // self.width


def parts(model: Any, unit: Unit) -> list[Part]:
    """Return a model's heads or neurons, one part per layer.

    Raises ModelError if the architecture is unknown or its heads cannot be removed one by one.
    """
    row = architectures.of(model)
    if unit == "heads" and row.head_bias:
        raise ModelError(
            f"prune.heads: in {model.config.model_type} the heads of all layers share one table of "
            "relative positions, so heads cannot be removed; prune neurons or layers instead"
        )
    names = (row.query, row.key, row.value) if unit == "heads" else (row.up,)
    sink = row.output if unit == "heads" else row.down
    width = architectures.head_size(model) if unit == "heads" else 1
    return [
        Part(tuple(_locate(layer, name) for name in names), _locate(layer, sink), width)
        for layer in checkpoint.encoder_layers(model)
    ]


def _locate(layer: Any, path: str) -> tuple[nn.Module, str]:
    parent, _, name = path.rpartition(".")
    return layer.get_submodule(parent), name


def columns(units: Tensor, width: int) -> Tensor:
    """Return the columns of units: unit u has columns u·width … (u + 1)·width − 1."""
    return (units[:, None] * width + torch.arange(width, device=units.device)).flatten()


def weight_of(linear: Any) -> Tensor:
    """Return the outputs × inputs matrix of a linear layer, plain or factorized."""
    return linear.up.weight @ linear.down.weight if hasattr(linear, "down") else linear.weight


def bias_of(linear: Any) -> Tensor:
    return linear.up.bias if hasattr(linear, "up") else linear.bias


def keep_units(part: Part, kept: Tensor) -> None:
    """Keep only the units ``kept`` (indices in rising order) of a part."""
    chosen = columns(kept, part.width)
    with torch.no_grad():
        for parent, name in part.producers:
            setattr(parent, name, _slice_outputs(getattr(parent, name), chosen))
        parent, name = part.consumer
        setattr(parent, name, _slice_inputs(getattr(parent, name), chosen))


def _slice_outputs(linear: Any, chosen: Tensor) -> Any:
    if hasattr(linear, "up"):
        linear.up = _slice_outputs(linear.up, chosen)
        return linear
    return _linear(linear.weight[chosen], None if linear.bias is None else linear.bias[chosen])


def _slice_inputs(linear: Any, chosen: Tensor) -> Any:
    if hasattr(linear, "down"):
        linear.down = _slice_inputs(linear.down, chosen)
        return linear
    return _linear(linear.weight[:, chosen], linear.bias)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    outputs, inputs = weight.shape
    linear = nn.Linear(inputs, outputs, bias=bias is not None, device=weight.device)
    linear.weight.copy_(weight)
    if bias is not None:
        linear.bias.copy_(bias)
    return linear


def scale_units(part: Part, scales: Tensor) -> None:
    """Fold one factor per unit into the layer that reads the units."""
    sink = part.sink
    thin = sink.down if hasattr(sink, "down") else sink
    with torch.no_grad():
        thin.weight.mul_(scales.to(thin.weight).repeat_interleave(part.width))


def keep_layers(model: Any, kept: Sequence[int]) -> None:
    """Keep only the layers ``kept``, and update the config."""
    layers = checkpoint.encoder_layers(model)
    chosen = [layers[index] for index in kept]
    del layers[:]
    layers.extend(chosen)
    model.config.num_hidden_layers = len(chosen)


@contextmanager
def skipped(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Make layers pass their input through unchanged inside a ``with`` block."""

    def bypass(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        return (inputs[0], *output[1:]) if isinstance(output, tuple) else inputs[0]

    handles = [layer.register_forward_hook(bypass) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
