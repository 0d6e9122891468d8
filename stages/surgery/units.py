"""Physically remove heads, neurons and layers from a model: smaller matrices, not masks.

Heads and feed-forward neurons are both *units*: some linear layers produce them and one linear
layer consumes them. A head is ``head size`` columns wide, a neuron one. A producer may hold several
matrices (fused query, key and value; the two halves of a gated layer): a unit is its rows in all
of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.architectures import parts as model_parts
from rarefy.pipeline.model.architectures import shared_heads
from rarefy.pipeline.model.architectures.description import Units

Unit = Literal["heads", "neurons"]
T = TypeVar("T")


@dataclass(frozen=True)
class Producer:
    """A linear layer whose outputs are units: ``parent.name``; see ``Maker`` for their order."""

    parent: nn.Module
    name: str
    blocks: int = 1
    each: int = 1

    @property
    def linear(self) -> Any:
        return getattr(self.parent, self.name)


@dataclass(frozen=True)
class Part:
    """The units of one kind in one layer.

    ``producers``  the linear layers whose outputs are the units
    ``consumer``   (parent, attribute) of the linear layer that reads the units
    ``inlet``      (parent, attribute) of the module whose input is the residual stream
    ``width``      columns per unit
    ``vectors``    (parent, attribute) of parameters with one number per column
    ``shared``     the attention, if its heads read a table that all layers share
    """

    producers: tuple[Producer, ...]
    consumer: tuple[nn.Module, str]
    inlet: tuple[nn.Module, str]
    width: int
    vectors: tuple[tuple[nn.Module, str], ...] = ()
    shared: nn.Module | None = None

    @property
    def entry(self) -> Any:
        parent, name = self.inlet
        return getattr(parent, name)

    @property
    def sink(self) -> Any:
        parent, name = self.consumer
        return getattr(parent, name)

    @property
    def count(self) -> int:
        last = self.producers[-1]
        return model_parts.out_features(last.linear) // (last.blocks * last.each * self.width)


def parts(model: Any, unit: Unit) -> list[Part]:
    """Return a model's heads or neurons, one part per layer.

    Raises ModelError if the family is not described or its heads cannot be removed one by one.
    """
    row = model_parts.of(model)
    if unit == "heads":
        model_parts.check_heads(model.config.to_dict())
    units = row.heads if unit == "heads" else row.neurons
    width = model_parts.head_size(model) if unit == "heads" else 1
    shared = row.attention if unit == "heads" and row.shares_positions else None
    return [_part(layer, units, width, shared) for layer in checkpoint.encoder_layers(model)]


def _part(layer: Any, units: Units, width: int, shared: str | None) -> Part:
    producers = tuple(
        Producer(*_locate(layer, maker.path), maker.blocks, maker.each)
        for maker in model_parts.makers(layer, units)
    )
    return Part(
        producers,
        consumer=_locate(layer, units.reader),
        inlet=_locate(layer, units.entry),
        width=width,
        vectors=tuple(_locate(layer, path) for path in units.vectors),
        shared=layer.get_submodule(shared) if shared else None,
    )


def _locate(layer: Any, path: str) -> tuple[nn.Module, str]:
    parent, _, name = path.rpartition(".")
    return layer.get_submodule(parent), name


def columns(units: Tensor, width: int, blocks: int = 1, total: int = 0) -> Tensor:
    """Return the columns of units: in each block, unit u has columns u·width … (u + 1)·width − 1.

    ``total`` is the number of units in a block.
    """
    starts = torch.arange(blocks, device=units.device) * total * width
    one = (units[:, None] * width + torch.arange(width, device=units.device)).flatten()
    return (starts[:, None] + one).flatten()


def forward_order(by_unit: Iterable[Sequence[T]]) -> list[T]:
    """Interleave lists that have one entry per layer: all of the first layer, then the second."""
    return [each for layer in zip(*by_unit, strict=True) for each in layer]


def weight_of(linear: Any) -> Tensor:
    """Return the outputs × inputs matrix of a linear layer, plain or factorized."""
    return linear.up.weight @ linear.down.weight if hasattr(linear, "down") else linear.weight


def bias_of(linear: Any) -> Tensor | None:
    bias: Tensor | None = linear.up.bias if hasattr(linear, "up") else linear.bias
    return bias


def keep_units(part: Part, kept: Tensor) -> None:
    """Keep only the units ``kept`` (indices in rising order) of a part."""
    total, chosen = part.count, columns(kept, part.width)
    with torch.no_grad():
        for made in part.producers:
            outputs = columns(kept, made.each * part.width, made.blocks, total)
            setattr(made.parent, made.name, _slice_outputs(made.linear, outputs))
        for parent, name in part.vectors:
            setattr(parent, name, nn.Parameter(getattr(parent, name)[chosen]))
        parent, name = part.consumer
        setattr(parent, name, _slice_inputs(getattr(parent, name), chosen))
        if part.shared is not None and len(kept) < total:
            shared_heads.keep(part.shared, kept)


def keep_all(model: Any, parts: Sequence[Part], kept: Sequence[Tensor]) -> None:
    """Keep only some units of a model's parts: for each part, their indices in rising order."""
    device = next(model.parameters()).device
    for part, units in zip(parts, kept, strict=True):
        keep_units(part, units.to(device))
    checkpoint.count_heads(model)


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
    """Keep only the layers ``kept``, and update the config.

    Raises ModelError if the model cannot do without another layer.
    """
    model_parts.check_layers(model.config.to_dict(), kept)
    layers = checkpoint.encoder_layers(model)
    chosen = [layers[index] for index in kept]
    del layers[:]
    layers.extend(chosen)
    model.config.num_hidden_layers = len(chosen)
    for key in model_parts.of(model).per_layer:
        values = getattr(model.config, key)
        setattr(model.config, key, [values[index] for index in kept])


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
