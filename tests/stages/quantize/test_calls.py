"""A layer's call with the text is told from one with a table of positions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rarefy.stages.quantize import calls
from tests.stages.classifiers import classifier


@pytest.mark.parametrize("name", ["query_proj", "value_proj"])
def test_only_the_first_call_of_each_pass_is_one_of_text(name):
    network = classifier("deberta-v3", "eager", share_att_key=True, pos_att_type=["c2p", "p2c"])
    layer = next(module for path, module in network.named_modules() if path.endswith(name))
    found: list[tuple[bool, tuple[int, ...]]] = []
    with calls.of_text(network) as reads_text:
        hook = layer.register_forward_pre_hook(
            lambda _, inputs: found.append((reads_text("it"), tuple(inputs[0].shape[:2])))
        )
        for rows in (2, 3):
            network(input_ids=torch.full((rows, 7), 5))
        hook.remove()
    texts = [shape for of_text, shape in found if of_text]
    assert texts == [(2, 7), (3, 7)]
    assert (len(found) > len(texts)) is (name == "query_proj")
    assert not network._forward_pre_hooks


def test_all_calls_of_a_model_that_is_not_described_are_of_text():
    """Layers may share weights there, and each call counts."""
    network = nn.Sequential(nn.Linear(2, 2))
    with calls.of_text(network) as reads_text:
        assert [reads_text("it"), reads_text("it")] == [True, True]
