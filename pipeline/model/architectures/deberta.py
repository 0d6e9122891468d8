"""DeBERTa, and DeBERTa-v2, which is also the model type of DeBERTa-v3.

He et al. 2021 (arXiv 2006.03654). A head also has a key and a query for relative positions, made
from an embedding table that all layers share. They have projections of their own, or use those of
the content (``share_att_key``); either way a head's columns are removed from all of them.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.model.architectures.bert import BERT
from pipeline.model.architectures.description import Config, Maker, Units, plain


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

FAMILIES = {"deberta": DEBERTA, "deberta-v2": DEBERTA_V2}
