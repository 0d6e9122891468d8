"""An attention reads the columns of its own heads from a table that all layers share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rarefy.pipeline.model.architectures import shared_heads


class Attention(nn.Module):
    def forward(self, hidden, mask=None, position_bias=None):
        return position_bias


TABLE = torch.arange(4.0)[None, :, None, None].expand(1, 4, 2, 2)


@pytest.mark.parametrize("named", [True, False])
def test_the_kept_columns_are_read_also_after_a_second_pruning(named):
    attention = Attention()
    assert shared_heads.count(attention) is None

    def read():
        given = {"position_bias": TABLE} if named else {}
        found = attention(None, None, *([] if named else [TABLE]), **given)
        return found[0, :, 0, 0].tolist()

    assert read() == [0, 1, 2, 3]
    shared_heads.keep(attention, torch.tensor([0, 2, 3]))
    assert read() == [0, 2, 3]
    shared_heads.keep(attention, torch.tensor([1, 2]))
    assert read() == [2, 3]
    assert shared_heads.count(attention) == 2
    assert attention.state_dict()["kept_heads"].tolist() == [2, 3]


def test_no_table_is_none():
    attention = Attention()
    shared_heads.keep(attention, torch.tensor([1]))
    assert attention(None, None, position_bias=None) is None
