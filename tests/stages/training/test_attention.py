"""Attention trains as plain operators where these are faster, and is fused again afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.models.bert.modeling_bert import BertSelfAttention

from rarefy.stages.training import attention
from rarefy.stages.training import loop as trainer
from tests.models import write_model
from tests.stages.trainings import fit


@pytest.fixture
def network(tmp_path):
    return write_model(tmp_path, "bert", "AutoModelForSequenceClassification")


def rows(tokens):
    return np.array([tokens] * 3)


@pytest.mark.parametrize(
    ("device", "bf16", "tokens", "form"),
    [
        ("cpu", True, 128, "eager"),
        ("cpu", True, 129, "sdpa"),  # the fused kernel is faster from here on,
        ("cpu", False, 20, "sdpa"),  # in fp32 nothing is changed
        ("cuda", True, 20, "sdpa"),  # a GPU has other kernels
    ],
)
def test_plain_operators_are_for_short_texts_in_bf16_on_a_cpu(network, device, bf16, tokens, form):
    with attention.fastest(network, device, rows(tokens), bf16=bf16):
        assert network.config._attn_implementation == form
    assert network.config._attn_implementation == "sdpa"


def test_it_is_fused_again_after_a_failure(network):
    with pytest.raises(KeyError), attention.fastest(network, "cpu", rows(8), bf16=True):
        raise KeyError
    assert network.config._attn_implementation == "sdpa"


def test_the_answers_are_the_same(network):
    given = {
        "input_ids": torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
    }
    fused = network(**given).logits
    with attention.fastest(network, "cpu", rows(4), bf16=True):
        plain = network(**given).logits
    torch.testing.assert_close(plain, fused)


def test_attention_that_was_plain_stays_plain(network):
    network.set_attn_implementation("eager")
    with attention.fastest(network, "cpu", rows(8), bf16=True):
        pass
    assert network.config._attn_implementation == "eager"


@pytest.mark.parametrize(("bf16", "form"), [(True, "eager"), (False, "sdpa")])
def test_training_takes_the_fastest(tiny_encoder, make_context, monkeypatch, bf16, form):
    seen = set()

    def watch(module, given, answer):
        if isinstance(module, BertSelfAttention):
            seen.add(module.config._attn_implementation)

    monkeypatch.setattr(trainer, "cpu_has_bf16", lambda: bf16)
    with torch.nn.modules.module.register_module_forward_hook(watch):
        trained, _ = fit(make_context(rows=8), tiny_encoder, epochs=1)
    assert seen == {form}
    assert trained.config._attn_implementation == "sdpa"
