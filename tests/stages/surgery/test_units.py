"""A model with units removed answers like the whole one with those units masked."""

from __future__ import annotations

import copy

import pytest
import torch

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.surgery import units as surgery
from tests.models import write_encoder
from tests.stages.classifiers import PATHS, classifier, masked_logits, one_where

LAYERS = {"num_hidden_layers": 4}
EAGER = ("deberta", "deberta-v2", "deberta-v3", "mpnet")
"""Families whose attention transformers computes in one way only."""
CASES = [
    (kind, attention)
    for kind in PATHS
    for attention in (("eager",) if kind in EAGER else ("eager", "sdpa"))
]


@pytest.mark.parametrize(("kind", "attention"), CASES)
def test_uneven_removal_equals_masking_in_every_family(kind, attention, tmp_path):
    model = classifier(kind, attention)
    heads, neurons = [[0], [1, 2, 3], [0, 1, 2, 3]], [range(16), range(5, 53), range(64)]
    masks = {PATHS[kind][0].format(i): one_where(kept, 4, 8) for i, kept in enumerate(heads)}
    masks |= {PATHS[kind][1].format(i): one_where(list(kept), 64) for i, kept in enumerate(neurons)}
    expected = masked_logits(model, masks)
    assert (expected - masked_logits(model, {})).abs().max() > 1e-2
    for unit, kept in (("heads", heads), ("neurons", neurons)):
        for part, units in zip(surgery.parts(model, unit), kept, strict=True):
            surgery.keep_units(part, torch.tensor(list(units)))
    checkpoint.count_heads(model)
    torch.testing.assert_close(masked_logits(model, {}), expected, atol=1e-4, rtol=0)

    tokenizer = checkpoint.load_tokenizer(write_encoder(tmp_path / "tokenizer"))
    checkpoint.save(model, tokenizer, tmp_path / "pruned")
    again = checkpoint.load(tmp_path / "pruned")
    again.set_attn_implementation(attention)
    torch.testing.assert_close(masked_logits(again, {}), expected, atol=1e-4, rtol=0)
    told = checkpoint.describe(again)
    assert (told["heads"], told["intermediate"]) == ([1, 3, 4], [16, 48, 64])


def test_heads_that_share_a_table_may_go_in_several_steps():
    model = classifier("mpnet", "eager")
    path = PATHS["mpnet"][0].format(1)
    expected = masked_logits(model, {path: one_where([1, 3], 4, 8)})
    for kept in ([1, 2, 3], [0, 2]):
        surgery.keep_units(surgery.parts(model, "heads")[1], torch.tensor(kept))
        checkpoint.count_heads(model)
    torch.testing.assert_close(masked_logits(model, {}), expected, atol=1e-4, rtol=0)
    again = copy.deepcopy(model)
    torch.testing.assert_close(masked_logits(again, {}), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [kind for kind in PATHS if kind != "deberta-v2"])
def test_a_kept_layer_is_the_same_after_saving_and_loading(kind, tmp_path):
    model = classifier(kind, "eager", **({"n_layers": 4} if kind == "distilbert" else LAYERS))
    with surgery.skipped([checkpoint.encoder_layers(model)[index] for index in (1, 2)]):
        expected = masked_logits(model, {})
    surgery.keep_layers(model, [0, 3])
    torch.testing.assert_close(masked_logits(model, {}), expected)
    tokenizer = checkpoint.load_tokenizer(write_encoder(tmp_path / "tokenizer"))
    checkpoint.save(model, tokenizer, tmp_path / "student")
    again = checkpoint.load(tmp_path / "student")
    again.set_attn_implementation("eager")
    torch.testing.assert_close(masked_logits(again, {}), expected)
    assert checkpoint.describe(again)["layers"] == 2


def test_a_kept_layer_of_modernbert_keeps_its_kind_of_attention():
    model = classifier("modernbert", num_hidden_layers=4)
    kinds = ["full_attention", "sliding_attention"] * 2
    assert model.config.layer_types == kinds
    surgery.keep_layers(model, [0, 2, 3])
    assert model.config.layer_types == [kinds[0], kinds[2], kinds[3]]
    assert [layer.attention_type for layer in model.model.layers] == model.config.layer_types


@pytest.mark.parametrize(
    ("kind", "reason"), [("modernbert", "no norm before"), ("deberta-v2", "a convolution")]
)
def test_a_first_layer_that_differs_from_the_others_stays(kind, reason):
    with pytest.raises(ModelError, match=f"in {kind}, .*{reason}.*, so layer 0 must be kept"):
        surgery.keep_layers(classifier(kind, "eager"), [1, 2])


def test_the_heads_of_deberta_stay_if_they_read_each_other():
    with pytest.raises(ModelError, match="deberta, talking heads read"):
        surgery.parts(classifier("deberta", "eager", talking_head=True), "heads")


@pytest.mark.parametrize("kinds", [["c2p"], ["p2c"], None])
@pytest.mark.parametrize("kind", ["deberta", "deberta-v2"])
def test_heads_of_deberta_with_fewer_position_projections(kind, kinds):
    model = classifier(kind, "eager", pos_att_type=kinds)
    expected = masked_logits(model, {PATHS[kind][0].format(1): one_where([0, 3], 4, 8)})
    surgery.keep_units(surgery.parts(model, "heads")[1], torch.tensor([0, 3]))
    checkpoint.count_heads(model)
    torch.testing.assert_close(masked_logits(model, {}), expected, atol=1e-4, rtol=0)
