"""Module paths of the layers, attention and feed-forward parts in each architecture.

Pruning, factorization, distillation and export share this table. Paths are relative to a layer and
follow transformers' modelling code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.terms.errors import ModelError


@dataclass(frozen=True)
class Architecture:
    """Module paths: ``layers`` is relative to the body, all others to one layer.

    ``query``, ``key``, ``value``  linear, hidden -> heads · head size, one head after the other
    ``output``                     linear, heads · head size -> hidden
    ``up``, ``down``               linear, hidden -> neurons and neurons -> hidden
    ``attention``                  the module that stores the number of heads, as ``head_count``
    ``head_bias``                  whether all layers share one table of relative position biases
                                   with a column per head, so that heads cannot be removed from a
                                   single layer
    """

    layers: str
    query: str
    key: str
    value: str
    output: str
    up: str
    down: str
    attention: str
    head_count: str = "num_attention_heads"
    head_bias: bool = False


_BERT = Architecture(
    layers="encoder.layer",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    output="attention.output.dense",
    up="intermediate.dense",
    down="output.dense",
    attention="attention.self",
)

ARCHITECTURES: dict[str, Architecture] = {
    "bert": _BERT,
    "roberta": _BERT,
    "electra": _BERT,
    "distilbert": Architecture(
        layers="transformer.layer",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        output="attention.out_lin",
        up="ffn.lin1",
        down="ffn.lin2",
        attention="attention",
        head_count="n_heads",
    ),
    "mpnet": Architecture(
        layers="encoder.layer",
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        output="attention.attn.o",
        up="intermediate.dense",
        down="output.dense",
        attention="attention.attn",
        head_bias=True,
    ),
}


def of(model: Any) -> Architecture:
    """Return a model's row of the table. Raises ModelError if its architecture is not listed."""
    kind = model.config.model_type
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(f"model type {kind!r} is not supported; supported: {known}")
    return ARCHITECTURES[kind]


def unwrapped(model: Any) -> Any:
    """Return the transformers model under peft adapters, or the model itself if it has none."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def body(model: Any) -> Any:
    """Return the model without its task's head."""
    return unwrapped(model).base_model


def encoder_layers(model: Any) -> Any:
    """Return the ModuleList of layers. Raises ModelError if the architecture is not listed."""
    return body(model).get_submodule(of(unwrapped(model)).layers)


def out_features(linear: Any) -> int:
    """Return the number of outputs of a linear layer: plain, factorized or with an adapter."""
    if hasattr(linear, "up"):
        return out_features(linear.up)
    return int(getattr(linear, "base_layer", linear).out_features)


def head_size(model: Any) -> int:
    """Return the size of one attention head, which pruning never changes."""
    config = model.config
    return int(config.hidden_size // config.num_attention_heads)


def head_counts(model: Any) -> list[int]:
    """Return the number of attention heads in each layer."""
    query, size = of(unwrapped(model)).query, head_size(model)
    return [out_features(layer.get_submodule(query)) // size for layer in encoder_layers(model)]


def neuron_counts(model: Any) -> list[int]:
    """Return the number of feed-forward neurons in each layer."""
    up = of(unwrapped(model)).up
    return [out_features(layer.get_submodule(up)) for layer in encoder_layers(model)]
