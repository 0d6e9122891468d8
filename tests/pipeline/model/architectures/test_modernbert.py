"""ModernBERT's fused and gated layers, and the first one, which differs."""

from __future__ import annotations

from torch import nn

from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.model.architectures.families import MODERNBERT
from tests.pipeline.model.architectures.test_parts import classifier, shapes


def test_fused_and_gated_layers_hold_several_matrices():
    layer = parts.encoder_layers(classifier("modernbert"))[1]
    assert shapes(layer, MODERNBERT.heads) == [(48, 16), (16, 16)]
    assert shapes(layer, MODERNBERT.neurons) == [(48, 16), (16, 24)]


def test_only_the_first_layer_has_no_norm_before_its_attention():
    norms = [type(layer.attn_norm) for layer in parts.encoder_layers(classifier("modernbert"))]
    assert norms == [nn.Identity, nn.LayerNorm, nn.LayerNorm]
    assert "no norm" in MODERNBERT.first_stays({})
    assert MODERNBERT.heads_stay({}) == ""
