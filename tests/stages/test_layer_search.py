"""The layers that change the answers least are found."""

import torch

from stages import layer_search
from tests.models import TASK
from tests.stages.classifiers import IDS, MASK, classifier


def test_a_layer_that_does_nothing_goes_first():
    model = classifier("bert")
    idle = model.bert.encoder.layer[1]
    with torch.no_grad():
        idle.attention.output.dense.weight.zero_()
        idle.attention.output.dense.bias.zero_()
        idle.output.dense.weight.zero_()
        idle.output.dense.bias.zero_()
        before = model.bert.encoder.layer[0].output.LayerNorm
        for norm in (idle.attention.output.LayerNorm, idle.output.LayerNorm):
            norm.weight.fill_(1), norm.bias.zero_()
        before.weight.fill_(1), before.bias.zero_()
    batch = {"input_ids": IDS, "attention_mask": MASK}
    assert layer_search.least_needed(TASK, model, 1, [batch], lambda *_: None) == {1}


def test_a_first_layer_that_must_stay_is_no_candidate():
    model = classifier("modernbert")
    rows = [{"input_ids": IDS[:1], "attention_mask": torch.ones_like(IDS[:1])}]
    assert layer_search.least_needed(TASK, model, 2, rows, lambda *_: None) == {1, 2}
