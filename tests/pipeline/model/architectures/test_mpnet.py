"""MPNet's layers share a table with a column per head."""

from __future__ import annotations

from rarefy.pipeline.model.architectures.families import MPNET
from tests.pipeline.model.architectures.test_parts import classifier


def test_the_table_is_outside_of_the_layers():
    encoder = classifier("mpnet").mpnet.encoder
    assert encoder.relative_attention_bias.weight.shape[1] == 4
    assert MPNET.shares_positions
    assert MPNET.heads_stay({}) == ""
    assert MPNET.first_stays({}) == ""
