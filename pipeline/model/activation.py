"""Give a model's feed-forward layers another activation."""

from __future__ import annotations

from typing import Any

from pipeline.model import parts
from pipeline.terms.errors import ModelError

KEYS = ("hidden_act", "hidden_activation", "activation")
"""Names of the activation in the config of one family or another."""


def replace(model: Any, name: str) -> None:
    """Use the activation that transformers knows by ``name``, and note it in the model's config.

    Raises ModelError if the family is not described, or a layer does not show its activation.
    """
    from transformers.activations import ACT2FN

    parts.of(model)
    key = next((key for key in KEYS if hasattr(model.config, key)), None)
    if key:
        before = type(ACT2FN[getattr(model.config, key)])
    else:
        before = None
    for layer in parts.encoder_layers(model):
        paths = [path for path, module in layer.named_modules() if type(module) is before]
        if key is None or not paths:
            raise ModelError(
                f"the layers of this {model.config.model_type} model do not show their activation, "
                "so it cannot be replaced"
            )
        for path in paths:
            layer.set_submodule(path, ACT2FN[name])
    setattr(model.config, str(key), name)
