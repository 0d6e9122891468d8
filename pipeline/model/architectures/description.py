"""How an architecture is described: where its layers are, and what makes and reads their units.

Heads and feed-forward neurons are both *units*: some linear layers make them and one linear layer
reads them. All paths follow transformers' modelling code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, Any]
"""A model's config.json, which may leave out values that equal transformers' defaults."""


def never(_: Config) -> str:
    """Return "": there is no reason against it in any config."""
    return ""


@dataclass(frozen=True)
class Maker:
    """A linear layer whose outputs are units, perhaps several matrices in one.

    Its outputs are ordered by block, unit, matrix within the unit, column of the unit. A plain
    layer has one block of one matrix. In a fused layer with ``blocks`` = 3, all queries come first,
    then all keys, then all values. With ``each`` = 3, query, key and value of one head lie side by
    side. A gated feed-forward layer has two blocks: activations and gates.

    ``path``       relative to the layer
    ``positions``  whether its input is not the text but a table of relative positions; configs
                   without such positions do not have it
    """

    path: str
    blocks: int = 1
    each: int = 1
    positions: bool = False


@dataclass(frozen=True)
class Units:
    """The linear layers around one kind of unit. Paths are relative to a layer.

    ``makers``   the last matrix of the last one is that in which the output is linear: the value
                 of heads, the gate of gated neurons
    ``reader``   linear, units -> hidden
    ``entry``    a module whose input is the residual stream, and that is called once a pass
    ``vectors``  parameters outside of linear layers with one number per column of a unit
    """

    makers: tuple[Maker, ...]
    reader: str
    entry: str
    vectors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """The parts of a model. ``layers`` is relative to the body, all other paths to one layer.

    ``attention``    the module that stores the number of heads as ``head_count``; None if the
                     model finds it from the shapes
    ``per_layer``    keys of the config that hold a list with an entry for each layer
    ``shares_positions``  whether the attentions of all layers read one table of relative positions
                     with a column for each head (``pipeline.model.shared_heads``)
    ``heads_stay``   returns why heads cannot be removed from single layers, or ""
    ``first_stays``  returns why the first layer cannot be removed, or ""
    ``bf16``         whether transformers' code of it runs under autocast to bfloat16
    """

    layers: str
    heads: Units
    neurons: Units
    attention: str
    head_count: str | None = "num_attention_heads"
    per_layer: tuple[str, ...] = ()
    shares_positions: bool = False
    heads_stay: Callable[[Config], str] = never
    first_stays: Callable[[Config], str] = never
    bf16: bool = True


def plain(*paths: str) -> tuple[Maker, ...]:
    """Return makers that each hold one matrix."""
    return tuple(Maker(path) for path in paths)
