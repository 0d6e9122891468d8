"""ModernBERT: fused query, key and value; gated neurons; global and local attention by layer.

Warner et al. 2024 (arXiv 2412.13663).
"""

from __future__ import annotations

from rarefy.pipeline.model.architectures.description import Architecture, Config, Maker, Units


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

FAMILIES = {"modernbert": MODERNBERT}
