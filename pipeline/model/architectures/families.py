"""The parts of each family of models; a new one is a description and an entry in the table.

A description says where a family's layers are, and what makes and reads their units. Heads and
feed-forward neurons are both *units*: some linear layers make them and one linear layer reads them.
All paths follow transformers' modelling code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
                     with a column for each head
                     (``rarefy.pipeline.model.architectures.shared_heads``)
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


BERT = Architecture(
    layers="encoder.layer",
    heads=Units(
        makers=plain("attention.self.query", "attention.self.key", "attention.self.value"),
        reader="attention.output.dense",
        entry="attention.self.query",
    ),
    neurons=Units(
        makers=plain("intermediate.dense"), reader="output.dense", entry="intermediate.dense"
    ),
    attention="attention.self",
)
"""BERT and the families with its module names: RoBERTa, CamemBERT, ELECTRA, ERNIE and others."""
PRELAYERNORM = replace(
    BERT,
    heads=replace(BERT.heads, entry="attention.LayerNorm"),
    neurons=replace(BERT.neurons, entry="intermediate.LayerNorm"),
)
"""The same modules, but each part normalizes the residual stream before it reads it."""

DISTILBERT = Architecture(
    layers="transformer.layer",
    heads=Units(
        makers=plain("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        reader="attention.out_lin",
        entry="attention.q_lin",
    ),
    neurons=Units(makers=plain("ffn.lin1"), reader="ffn.lin2", entry="ffn.lin1"),
    attention="attention",
    head_count="n_heads",
)

MPNET = Architecture(
    layers="encoder.layer",
    heads=Units(
        makers=plain("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        reader="attention.attn.o",
        entry="attention.attn.q",
    ),
    neurons=Units(
        makers=plain("intermediate.dense"), reader="output.dense", entry="intermediate.dense"
    ),
    attention="attention.attn",
    shares_positions=True,
)
"""MPNet, whose layers share one table of relative position biases with a column for each head."""


def _talking(config: Config) -> str:
    if config.get("talking_head"):
        return "talking heads read each other's scores"
    return ""


def _convolution(config: Config) -> str:
    if config.get("conv_kernel_size"):
        return "a convolution belongs to the first layer"
    return ""


DEBERTA = replace(
    BERT,
    heads=Units(
        makers=(
            Maker("attention.self.pos_proj", positions=True),
            Maker("attention.self.pos_q_proj", positions=True),
            Maker("attention.self.in_proj", each=3),
        ),
        reader="attention.output.dense",
        entry="attention.self.in_proj",
        vectors=("attention.self.q_bias", "attention.self.v_bias"),
    ),
    heads_stay=_talking,
    bf16=False,  # it fills bfloat16 scores with the lowest number of float32
)
"""DeBERTa (He et al. 2021, arXiv 2006.03654).

A head also has a key and a query for relative positions, made from an embedding table that all
layers share. They have projections of their own, or in version 2 use those of the content
(``share_att_key``); either way a head's columns are removed from all of them.
"""
DEBERTA_V2 = replace(
    BERT,
    heads=Units(
        makers=(
            Maker("attention.self.pos_key_proj", positions=True),
            Maker("attention.self.pos_query_proj", positions=True),
            *plain("attention.self.query_proj", "attention.self.key_proj"),
            *plain("attention.self.value_proj"),
        ),
        reader="attention.output.dense",
        entry="attention.self.value_proj",  # query and key may also project the positions
    ),
    first_stays=_convolution,
)
"""DeBERTa-v2, which is also the model type of DeBERTa-v3."""


def _no_norm(_: Config) -> str:
    return "the first layer has no norm before its attention, which all others have"


MODERNBERT = Architecture(
    layers="layers",
    heads=Units(makers=(Maker("attn.Wqkv", blocks=3),), reader="attn.Wo", entry="attn_norm"),
    neurons=Units(makers=(Maker("mlp.Wi", blocks=2),), reader="mlp.Wo", entry="mlp_norm"),
    attention="attn",
    head_count=None,
    per_layer=("layer_types",),
    first_stays=_no_norm,
)
"""ModernBERT (Warner et al. 2024, arXiv 2412.13663).

Its query, key and value are fused, its neurons gated, its attention global or local by layer.
"""

ARCHITECTURES: dict[str, Architecture] = {
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "camembert": BERT,
    "electra": BERT,
    "ernie": BERT,
    "data2vec-text": BERT,
    "roberta-prelayernorm": PRELAYERNORM,
    "distilbert": DISTILBERT,
    "mpnet": MPNET,
    "deberta": DEBERTA,
    "deberta-v2": DEBERTA_V2,
    "modernbert": MODERNBERT,
}
"""The description of each family, by ``model_type`` in config.json."""
SHIFTED = (
    *("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text"),
    *("roberta-prelayernorm", "xlm-roberta-xl", "xmod"),
)
"""Model types whose positions start after the padding id, described or not."""
