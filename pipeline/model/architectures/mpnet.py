"""MPNet, whose layers share one table of relative position biases with a column for each head."""

from __future__ import annotations

from rarefy.pipeline.model.architectures.description import Architecture, Units, plain

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

FAMILIES = {"mpnet": MPNET}
