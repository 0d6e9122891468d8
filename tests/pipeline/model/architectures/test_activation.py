"""Every described family takes another activation, and has it when it is loaded again."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from rarefy.pipeline.model.architectures import activation
from rarefy.pipeline.terms.errors import ModelError
from tests.breadth import broad
from tests.families import FAMILIES, write_family

DESCRIBED = [name for name in FAMILIES if name not in ("albert", "llama", "qwen3")]


@pytest.mark.parametrize("family", broad(DESCRIBED, "bert", "modernbert"))
def test_a_model_has_its_new_activation_also_when_it_is_loaded_again(family, tmp_path):
    model = write_family(tmp_path / "old", family, "AutoModelForSequenceClassification").eval()
    rows = {"input_ids": torch.tensor([[5, 6, 7, 8]]), "attention_mask": torch.ones(1, 4).long()}
    with torch.no_grad():
        before = model(**rows).logits
        activation.replace(model, "relu")
        after = model(**rows).logits
    assert not torch.equal(before, after)
    layers = activation.parts.encoder_layers(model)
    assert all(any(isinstance(each, nn.ReLU) for each in layer.modules()) for layer in layers)
    model.save_pretrained(tmp_path / "new")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "new").eval()
    with torch.no_grad():
        assert torch.allclose(again(**rows).logits, after, atol=1e-6)
    activation.replace(model, "relu")  # is what it has
    with torch.no_grad():
        assert torch.equal(model(**rows).logits, after)


def test_what_does_not_show_its_activation_is_refused(tmp_path):
    albert = write_family(tmp_path / "albert", "albert", "AutoModelForSequenceClassification")
    with pytest.raises(ModelError, match="'albert' are not described"):
        activation.replace(albert, "relu")
    bert = write_family(tmp_path / "bert", "bert", "AutoModelForSequenceClassification")
    bert.config.hidden_act = "silu"  # which its layers have not
    with pytest.raises(ModelError, match="do not show their activation"):
        activation.replace(bert, "relu")
