"""Layers that a recipe keeps in float by their names: are they there?"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.model.architectures.families import ARCHITECTURES, Architecture, Config
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.pipeline.terms.wording import nearest, plural

log = logging.getLogger(__name__)

SIMILAR = 0.85
"""How similar the name of a layer of a head is not to one of these, and one typed wrong is."""


def check(names: Sequence[str], config: Config) -> None:
    """Raise ModelError if a name is almost that of a linear layer, and there is none of this name.

    Only what is certain before there is a model: names in the layers of a described family. A head
    may have any others, which ``candidates`` checks.
    """
    family, depth = ARCHITECTURES.get(str(config.get("model_type"))), parts.depth(config)
    if family is None or depth is None:
        return
    layers = _linear_layers(family, depth)
    for name in names:
        prefix = name.partition(".")[0]  # "bert", which a body without a head does not have
        candidates = [*layers, *(f"{prefix}.{layer}" for layer in layers)]
        if any(f"{name}.".startswith(f"{layer}.") for layer in candidates):
            continue  # or it is a part of a factorized layer
        near = nearest(name, candidates, SIMILAR)
        if near:
            raise ModelError(
                f"exclude: no linear layer {name!r} in a {config['model_type']} with "
                f"{plural(depth, 'layer')}; did you mean {near!r}?"
            )


def _linear_layers(family: Architecture, depth: int) -> list[str]:
    """Return the paths of the linear layers of heads and neurons in a model's layers."""
    paths = []
    for units in (family.heads, family.neurons):
        paths += [maker.path for maker in units.makers]
        paths.append(units.reader)
    layers = []
    for layer in range(depth):
        layers += [f"{family.layers}.{layer}.{path}" for path in paths]
    return layers


def candidates(network: Any, exclude: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names of all linear layers but the last, and of those that may be int8.

    Raises RecipeError if ``exclude`` names no linear layer. The last one may be named as well.
    """
    from torch import nn

    from rarefy.stages.quantization import sensitivity

    layers = sensitivity.linear_layers(network)
    linear = {name for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    for name in exclude:
        if name not in linear:
            some = "none but the last"
            if layers:
                some = f"{', '.join(layers[:3])}, …"
            raise RecipeError(f"quantize.exclude: no linear layer {name!r}; the model has {some}")
    if not layers:  # as GPT-2, whose layers are transformers' Conv1D
        log.warning("quantize: the model has no linear layers but its last, so they stay in float")
    fixed = set(parts.position_projections(network))  # the export folds them into constants
    return layers, [name for name in layers if name not in fixed.union(exclude)]
