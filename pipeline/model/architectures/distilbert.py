"""DistilBERT."""

from __future__ import annotations

from rarefy.pipeline.model.architectures.description import Architecture, Units, plain

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

FAMILIES = {"distilbert": DISTILBERT}
