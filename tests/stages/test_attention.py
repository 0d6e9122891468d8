"""Attention trains as plain operators where these are faster, and is fused again afterwards."""

from __future__ import annotations

import pytest
import torch

from stages import attention
from tests.models import write_model


@pytest.fixture
def network(tmp_path):
    return write_model(tmp_path, "bert", "AutoModelForSequenceClassification")


def rows(tokens):
    return [{"input_ids": [5] * tokens}] * 3


@pytest.mark.parametrize(
    ("device", "bf16", "tokens", "form"),
    [
        ("cpu", True, 128, "eager"),
        ("cpu", True, 129, "sdpa"),  # the fused kernel is faster from here on,
        ("cpu", False, 20, "sdpa"),  # in fp32 nothing is changed
        ("cuda", True, 20, "sdpa"),  # a GPU has other kernels
    ],
)
def test_plain_operators_are_for_short_texts_in_bf16_on_a_cpu(
    network, monkeypatch, device, bf16, tokens, form
):
    monkeypatch.setattr(attention, "use_bf16", lambda device, network: bf16)
    with attention.fastest(network, device, rows(tokens)):
        assert network.config._attn_implementation == form
    assert network.config._attn_implementation == "sdpa"


def test_it_is_fused_again_after_a_failure(network, monkeypatch):
    monkeypatch.setattr(attention, "use_bf16", lambda device, network: True)
    with pytest.raises(KeyError), attention.fastest(network, "cpu", rows(8)):
        raise KeyError
    assert network.config._attn_implementation == "sdpa"


def test_the_answers_are_the_same(network, monkeypatch):
    monkeypatch.setattr(attention, "use_bf16", lambda device, network: True)
    given = {
        "input_ids": torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
    }
    fused = network(**given).logits
    with attention.fastest(network, "cpu", rows(4)):
        plain = network(**given).logits
    torch.testing.assert_close(plain, fused)


def test_attention_that_was_plain_stays_plain(network, monkeypatch):
    monkeypatch.setattr(attention, "use_bf16", lambda device, network: True)
    network.set_attn_implementation("eager")
    with attention.fastest(network, "cpu", rows(8)):
        pass
    assert network.config._attn_implementation == "eager"
