"""MPNet, whose layers share one table of relative position biases with a column for each head."""

from __future__ import annotations

from pipeline.model.architectures.description import Architecture, Config, Units, plain


def _one_table(_: Config) -> str:
    return "the heads of all layers share one table of relative positions"


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
    heads_stay=_one_table,
)

FAMILIES = {"mpnet": MPNET}
