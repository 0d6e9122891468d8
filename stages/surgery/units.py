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
from rarefy.pipeline.model.architectures.families import Units

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
    family = model_parts.of(model)
    units, width, shared = family.neurons, 1, None
    if unit == "heads":
        model_parts.check_heads(model.config.to_dict())
        units, width = family.heads, model_parts.head_size(model)
        if family.shares_positions:
            shared = family.attention
    return [_part(layer, units, width, shared) for layer in checkpoint.encoder_layers(model)]


def _part(layer: Any, units: Units, width: int, shared: str | None) -> Part:
    producers = []
    for maker in model_parts.makers(layer, units):
        parent, name = _locate(layer, maker.path)
        producers.append(Producer(parent, name, maker.blocks, maker.each))
    vectors = tuple(_locate(layer, path) for path in units.vectors)
    attention = None
    if shared:
        attention = layer.get_submodule(shared)
    consumer, inlet = _locate(layer, units.reader), _locate(layer, units.entry)
    return Part(tuple(producers), consumer, inlet, width, vectors, attention)


def _locate(layer: Any, path: str) -> tuple[nn.Module, str]:
    parent, _, name = path.rpartition(".")
    return layer.get_submodule(parent), name


def columns(units: Tensor, width: int, blocks: int = 1, total: int = 0) -> Tensor:
    """Return the columns of units: in each block, unit u has columns u·width … (u + 1)·width − 1.

    Args:
        units: (retained units,), their indices.
        width: columns per unit.
        blocks: blocks of columns that each have all units.
        total: the number of units in a block.

    Returns:
        (blocks · retained units · width,) indices of columns.
    """
    offsets = torch.arange(width, device=units.device)
    block = (units[:, None] * width + offsets).flatten()
    starts = torch.arange(blocks, device=units.device) * total * width
    return (starts[:, None] + block).flatten()


def forward_order(by_unit: Iterable[Sequence[T]]) -> list[T]:
    """Interleave lists that have one entry per layer: all of the first layer, then the second."""
    ordered: list[T] = []
    for layer in zip(*by_unit, strict=True):
        ordered.extend(layer)
    return ordered


def weight_of(linear: Any) -> Tensor:
    """Return the (outputs, inputs) matrix of a linear layer, plain or factorized."""
    if hasattr(linear, "down"):
        return linear.up.weight @ linear.down.weight
    return linear.weight


def bias_of(linear: Any) -> Tensor | None:
    """Return the bias (outputs,) of a linear layer, plain or factorized, if it has one."""
    last = getattr(linear, "up", linear)
    bias: Tensor | None = last.bias
    return bias


def keep_units(part: Part, retained: Tensor) -> None:
    """Keep only the units ``retained`` (indices in rising order) of a part."""
    total, chosen = part.count, columns(retained, part.width)
    with torch.no_grad():
        for producer in part.producers:
            rows = columns(retained, producer.each * part.width, producer.blocks, total)
            smaller = _slice_outputs(producer.linear, rows)
            setattr(producer.parent, producer.name, smaller)
        for parent, name in part.vectors:
            vector = getattr(parent, name)[chosen]
            setattr(parent, name, nn.Parameter(vector))
        parent, name = part.consumer
        smaller = _slice_inputs(part.sink, chosen)
        setattr(parent, name, smaller)
        if part.shared is not None and len(retained) < total:
            shared_heads.keep(part.shared, retained)


def keep_all(model: Any, parts: Sequence[Part], retained: Sequence[Tensor]) -> None:
    """Keep only some units of a model's parts: for each part, their indices in rising order."""
    device = next(model.parameters()).device
    for part, units in zip(parts, retained, strict=True):
        keep_units(part, units.to(device))
    checkpoint.count_heads(model)


def _slice_outputs(linear: Any, chosen: Tensor) -> Any:
    if hasattr(linear, "up"):
        linear.up = _slice_outputs(linear.up, chosen)
        return linear
    bias = linear.bias
    if bias is not None:
        bias = bias[chosen]
    return _linear(linear.weight[chosen], bias)


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


def replace_reader(part: Part, weight: Tensor, bias: Tensor | None) -> None:
    """Give the layer that reads a part's units another matrix (outputs, columns) and bias.

    A factorized layer keeps its second factor, and takes the first one that comes nearest.
    """
    sink, last = part.sink, getattr(part.sink, "up", part.sink)
    with torch.no_grad():
        if hasattr(sink, "down"):
            nearest = torch.linalg.lstsq(last.weight.double(), weight.double()).solution
            sink.down.weight.copy_(nearest)
        else:
            sink.weight.copy_(weight)
        if bias is not None:
            last.bias.copy_(bias)


def keep_layers(model: Any, retained: Sequence[int]) -> None:
    """Keep only the layers ``retained``, and update the config.

    Raises ModelError if the model cannot do without another layer.
    """
    model_parts.check_layers(model.config.to_dict(), retained)
    layers = checkpoint.encoder_layers(model)
    chosen = [layers[index] for index in retained]
    del layers[:]
    layers.extend(chosen)
    model.config.num_hidden_layers = len(chosen)
    for key in model_parts.of(model).per_layer:
        values = getattr(model.config, key)
        setattr(model.config, key, [values[index] for index in retained])


@contextmanager
def skipped(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Make layers pass their input through unchanged inside a ``with`` block."""

    def bypass(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (inputs[0], *output[1:])
        return inputs[0]

    handles = [layer.register_forward_hook(bypass) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
