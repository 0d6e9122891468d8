"""Ask a model for its parts: its layers, and the heads and neurons in them.

Pruning, factorization, distillation and adapters share these functions. What needs no parts works
for every other model as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rarefy.pipeline.model.architectures.families import (
    ARCHITECTURES,
    Architecture,
    Config,
    Maker,
    Units,
)
from rarefy.pipeline.terms.errors import ModelError

DEPTH = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")
"""Names of the number of layers in the config of one model or another."""
WIDTH = ("hidden_size", "dim", "d_model", "n_embd")
"""Names of the size of the hidden states."""
HEADS = ("num_attention_heads", "n_heads", "n_head")
"""Names of the number of attention heads in a layer."""


def named(config: Config) -> Architecture:
    """Return the description of the model with this config.

    Raises ModelError if its family is not described.
    """
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        known_types = ", ".join(ARCHITECTURES)
        raise ModelError(
            f"the parts of a model of type {kind!r} are not described; described are: {known_types}"
        )
    return ARCHITECTURES[kind]


def of(model: Any) -> Architecture:
    """Return a model's description. Raises ModelError if its family is not described."""
    return named({"model_type": model.config.model_type})


def check_heads(config: Config) -> None:
    """Raise ModelError if heads cannot be removed from single layers of this model."""
    reason = named(config).heads_stay(config)
    if reason:
        raise ModelError(
            f"prune.remove_heads: in {config['model_type']}, {reason}, so heads cannot be removed; "
            "prune neurons or layers instead"
        )


def first_stays(config: Config) -> bool:
    """Return whether the model cannot do without its first layer."""
    return bool(named(config).first_stays(config))


def check_layers(config: Config, retained: Sequence[int]) -> None:
    """Raise ModelError if the model cannot do without a layer that is not among ``retained``."""
    reason = named(config).first_stays(config)
    if reason and 0 not in retained:
        raise ModelError(f"in {config['model_type']}, {reason}, so layer 0 must be kept")


def depth(config: Any) -> int | None:
    """Return the number of layers in a config of transformers or JSON; None if it does not say."""
    return _first(config, DEPTH)


def shortened(config: Config, count: int) -> Config:
    """Return a config with ``count`` layers; the lists with an entry per layer do not change."""
    return {**config, **{name: count for name in DEPTH if config.get(name)}}


def of_unknown_depth(config: Config) -> Config:
    """Return a config that does not say how many layers there are."""
    return {name: value for name, value in config.items() if name not in DEPTH}


def width(config: Any) -> int | None:
    """Return the size of the hidden states in such a config; None if it does not say."""
    return _first(config, WIDTH)


def of_unknown_heads(config: Config) -> Config:
    """Return a config that does not say how many heads there are, since some were removed."""
    return {name: value for name, value in config.items() if name not in HEADS}


def _first(config: Any, names: tuple[str, ...]) -> int | None:
    if isinstance(config, Mapping):
        get = config.get
    else:
        get = partial(getattr, config)
    values = (get(name, None) for name in names)
    return next((value for value in values if isinstance(value, int)), None)


def unwrapped(model: Any) -> Any:
    """Return the transformers model under peft adapters, or the model itself if it has none."""
    if hasattr(model, "get_base_model"):
        return model.get_base_model()
    return model


def body(model: Any) -> Any:
    """Return the model without its task's head."""
    return unwrapped(model).base_model


def encoder_layers(model: Any) -> Any:
    """Return the ModuleList of layers. Raises ModelError if the family is not described."""
    return body(model).get_submodule(of(unwrapped(model)).layers)


def makers(layer: Any, units: Units) -> list[Maker]:
    """Return the makers of units that exist in a layer."""
    return [maker for maker in units.makers if not maker.positions or _has(layer, maker.path)]


def position_projections(model: Any) -> list[str]:
    """Return the names of the linear layers that read a table of relative positions, not the text.

    Their outputs are constants of the model. Empty if the family is not described.
    """
    row = ARCHITECTURES.get(unwrapped(model).config.model_type)
    if row is None:
        return []
    paths = {
        id(layer.get_submodule(maker.path))
        for layer in encoder_layers(model)
        for maker in makers(layer, row.heads)
        if maker.positions
    }
    return [name for name, module in model.named_modules() if id(module) in paths]


def runs_in_bf16(model: Any) -> bool:
    """Return whether a model's code runs under autocast to bfloat16, as far as is known."""
    row = ARCHITECTURES.get(unwrapped(model).config.model_type)
    return row is None or row.bf16


def _has(layer: Any, path: str) -> bool:
    parent, _, name = path.rpartition(".")
    return getattr(layer.get_submodule(parent), name, None) is not None


def out_features(linear: Any) -> int:
    """Return the number of outputs of a linear layer: plain, factorized or with an adapter."""
    if hasattr(linear, "up"):
        return out_features(linear.up)
    return int(getattr(linear, "base_layer", linear).out_features)


def head_size(model: Any) -> int:
    """Return the size of one attention head, which pruning never changes."""
    config = model.config
    size = getattr(config, "attention_head_size", None)
    return int(size or config.hidden_size // config.num_attention_heads)


def head_counts(model: Any) -> list[int]:
    """Return the number of attention heads in each layer."""
    units = of(unwrapped(model)).heads
    size = head_size(model)
    return [count(layer, units, size) for layer in encoder_layers(model)]


def neuron_counts(model: Any) -> list[int]:
    """Return the number of feed-forward neurons in each layer."""
    units = of(unwrapped(model)).neurons
    return [count(layer, units, 1) for layer in encoder_layers(model)]


def count(layer: Any, units: Units, width: int) -> int:
    """Return the number of units of ``width`` columns in a layer."""
    last = units.makers[-1]
    return out_features(layer.get_submodule(last.path)) // (last.blocks * last.each * width)
