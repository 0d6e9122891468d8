"""Hidden states are those that the layers compute."""

from __future__ import annotations

import pytest
import torch

from pipeline.terms.errors import ModelError
from stages.internals import captured_states
from tests.families import write_family

IDS = torch.tensor([[2, 5, 6, 7]])


@pytest.mark.parametrize(
    "family", ["bert", "mpnet", "distilbert", "roberta", "deberta-v3", "modernbert"]
)
def test_states_are_those_of_the_latest_pass(family, tmp_path):
    model = write_family(tmp_path, family, "AutoModelForSequenceClassification").eval()
    with torch.no_grad(), captured_states(model, [0]) as states:
        model(input_ids=IDS.flip(1))
        output = model(input_ids=IDS, output_hidden_states=True)
    assert torch.equal(states[0], output.hidden_states[1])


def test_nothing_stays_attached(tmp_path):
    model = write_family(tmp_path, "bert", "AutoModelForSequenceClassification").eval()
    with captured_states(model, [0]):
        pass
    assert not any(module._forward_hooks for module in model.modules())


def test_other_families_are_refused(tmp_path):
    model = write_family(tmp_path, "albert", "AutoModelForSequenceClassification").eval()
    with pytest.raises(ModelError, match="are not described"), captured_states(model, [0]):
        pass
