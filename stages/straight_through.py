"""Training under rounding: forward as int8 computes, backward as if nothing were rounded.

The straight-through estimator: Bengio et al. 2013 (arXiv 1308.3432). In training of quantized
models: Jacob et al. 2018 (arXiv 1712.05877, section 3).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.model import quantization
from pipeline.model.quantization import LinearPlan
from pipeline.terms.errors import ModelError
from pipeline.terms.vocabulary import Isa
from stages import calls, sensitivity


def planned(directory: Path) -> dict[str, LinearPlan]:
    """Return the int8 layers of a checkpoint's plan. Raises ModelError if it has none."""
    plan = quantization.read(directory)
    layers = plan.integer_layers if plan else {}
    if not layers:
        remedy = "; write quantize: {mode: dynamic, sensitivity: false}"
        raise ModelError(
            "no layer is int8 in the plan, so there is no rounding to train for"
            + (remedy if plan and plan.linears else "")
        )
    return layers


@dataclass
class Tokens:
    """Which tokens of the rows at hand are no padding."""

    padding: int
    real: Tensor | None = None

    def see(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Look at the ids of rows that are about to be embedded."""
        self.real = inputs[0] != self.padding

    def of(self, inputs: Tensor) -> Tensor | None:
        """Return rows × tokens for a layer that reads every token; None for another."""
        if self.real is None or inputs.dim() != 3 or inputs.shape[:2] != self.real.shape:
            return None
        return self.real


@contextlib.contextmanager
def rounding(
    network: Any, layers: Mapping[str, LinearPlan], isa: Isa, padding: int | None = None
) -> Iterator[None]:
    """Round these linear layers' weights and inputs in each forward pass inside a ``with`` block.

    A layer with a LoRA adapter rounds the sum of its weight and the update, as ``merge`` makes it.
    Inputs outside a static range have no gradient. Names are those of the model without adapters.
    ``padding``: the id that fills up rows; bundles run rows one by one, so a dynamic range is that
    of a row's other tokens.
    """
    tokens = None if padding is None else Tokens(padding)
    hook = tokens and network.get_input_embeddings().register_forward_pre_hook(tokens.see)
    modules = []
    try:
        with calls.of_text(network) as reads_text:
            for name, layer in layers.items():
                module: Any = network.get_submodule(name)
                asked = partial(reads_text, name)
                module.forward = partial(_forward, module, layer, isa, tokens, asked)
                modules.append(module)
            yield
    finally:
        if hook:
            hook.remove()
        for module in modules:
            del module.forward


def _forward(
    module: nn.Module,
    layer: LinearPlan,
    isa: Isa,
    tokens: Tokens | None,
    reads_text: Callable[[], bool],
    inputs: Tensor,
) -> Tensor:
    """Return a layer's outputs (rows × … × outputs), rounded as the plan says.

    Of what is no text, a table of positions, only the weight is rounded.
    """
    of_text = reads_text()
    with torch.autocast(inputs.device.type, enabled=False):  # the update of an adapter as merged
        weight, bias = _parameters(module)
    inputs = inputs.float()
    if layer.factors is not None:
        factors = weight.new_tensor(layer.factors)
        weight, inputs = weight * factors, inputs / factors
    if of_text and layer.low is not None and layer.high is not None:
        inputs = inputs.clamp(min(layer.low, 0), max(layer.high, 0))
    plain = layer.model_copy(update={"factors": None})
    with torch.no_grad():
        weight_error = sensitivity.fake_quantize_weight(weight, isa) - weight
        real = tokens and tokens.of(inputs)
        read = sensitivity.rounded_inputs(inputs, plain, real) if of_text else inputs
        input_error = read - inputs
    with torch.autocast(inputs.device.type, enabled=False):  # bfloat16 has not all the integers
        outputs = functional.linear(inputs + input_error, weight + weight_error, bias)
    if of_text and layer.correction is not None:
        outputs = outputs + weight.new_tensor(layer.correction)
    return outputs


def _parameters(module: Any) -> tuple[Tensor, Tensor | None]:
    """Return the weight (outputs × inputs) and the bias of a layer, with those of its adapters."""
    if not hasattr(module, "base_layer"):
        return module.weight, module.bias
    weight = module.base_layer.weight
    for adapter in module.active_adapters:
        weight = weight + module.get_delta_weight(adapter)
    return weight, module.base_layer.bias
