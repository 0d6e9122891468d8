"""BERT and the families with its module names: RoBERTa, XLM-RoBERTa, CamemBERT, ELECTRA, ERNIE."""

from __future__ import annotations

from dataclasses import replace

from rarefy.pipeline.model.architectures.description import Architecture, Units, plain

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
PRELAYERNORM = replace(
    BERT,
    heads=replace(BERT.heads, entry="attention.LayerNorm"),
    neurons=replace(BERT.neurons, entry="intermediate.LayerNorm"),
)
"""The same modules, but each part normalizes the residual stream before it reads it."""

FAMILIES = {
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "camembert": BERT,
    "electra": BERT,
    "ernie": BERT,
    "data2vec-text": BERT,
    "roberta-prelayernorm": PRELAYERNORM,
}
