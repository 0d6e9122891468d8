"""DeBERTa's parts by config: position projections, talking heads, convolution."""

from __future__ import annotations

import pytest

from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.model.architectures.families import DEBERTA, DEBERTA_V2
from tests.pipeline.model.architectures.test_parts import classifier, shapes

RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}


@pytest.mark.parametrize(
    ("kind", "further", "squares"),
    [
        ("deberta-v2", {}, 3),
        ("deberta-v2", RELATIVE, 5),
        ("deberta-v2", RELATIVE | {"share_att_key": True}, 3),
        ("deberta-v2", RELATIVE | {"pos_att_type": ["c2p"]}, 4),
        ("deberta", RELATIVE, 2),
        ("deberta", RELATIVE | {"pos_att_type": ["p2c"]}, 1),
    ],
)
def test_the_position_projections_are_those_that_the_config_asks_for(kind, further, squares):
    model = classifier(kind, **further)
    found = shapes(parts.encoder_layers(model)[1], parts.of(model).heads)
    fused = [(48, 16)] if kind == "deberta" else []
    assert found == [(16, 16)] * squares + fused + [(16, 16)]


def test_talking_heads_and_the_convolution_are_known_from_the_config():
    assert "talking" in DEBERTA.heads_stay({"talking_head": True})
    assert DEBERTA.heads_stay({"talking_head": False}) == DEBERTA_V2.heads_stay({}) == ""
    assert "convolution" in DEBERTA_V2.first_stays({"conv_kernel_size": 3})
    assert DEBERTA_V2.first_stays({"conv_kernel_size": 0}) == ""
