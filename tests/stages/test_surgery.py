"""A model with units removed answers like the whole one with those units masked."""

from __future__ import annotations

import pytest
import torch

from pipeline.model import checkpoint
from pipeline.terms.errors import ModelError
from stages import surgery
from tests.models import write_encoder
from tests.stages.classifiers import PATHS, classifier, masked_logits, one_where


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert"])
def test_uneven_removal_equals_masking_in_every_architecture(kind, attention, tmp_path):
    model = classifier(kind, attention)
    heads, neurons = [[0], [1, 2, 3], [0, 1, 2, 3]], [range(16), range(5, 53), range(64)]
    masks = {PATHS[kind][0].format(i): one_where(kept, 4, 8) for i, kept in enumerate(heads)}
    masks |= {PATHS[kind][1].format(i): one_where(list(kept), 64) for i, kept in enumerate(neurons)}
    expected = masked_logits(model, masks)
    assert (expected - masked_logits(model, {})).abs().max() > 1e-2
    for unit, kept in (("heads", heads), ("neurons", neurons)):
        for part, units in zip(surgery.parts(model, unit), kept, strict=True):
            surgery.keep_units(part, torch.tensor(list(units)))
    torch.testing.assert_close(masked_logits(model, {}), expected, atol=1e-4, rtol=0)

    tokenizer = checkpoint.load_tokenizer(write_encoder(tmp_path / "tokenizer"))
    checkpoint.save(model, tokenizer, tmp_path / "pruned")
    again = checkpoint.load(tmp_path / "pruned")
    again.set_attn_implementation(attention)
    torch.testing.assert_close(masked_logits(again, {}), expected, atol=1e-4, rtol=0)
    told = checkpoint.describe(again)
    assert (told["heads"], told["intermediate"]) == ([1, 3, 4], [16, 48, 64])


def test_mpnet_loses_neurons_and_layers_but_no_heads():
    model = classifier("mpnet", "eager")
    with pytest.raises(ModelError, match="relative positions"):
        surgery.parts(model, "heads")
    expected = masked_logits(model, {PATHS["mpnet"][1].format(0): one_where([3, 5, 8], 64)})
    surgery.keep_units(surgery.parts(model, "neurons")[0], torch.tensor([3, 5, 8]))
    torch.testing.assert_close(masked_logits(model, {}), expected, atol=1e-4, rtol=0)
    with surgery.skipped([checkpoint.encoder_layers(model)[1]]):
        expected = masked_logits(model, {})
    surgery.keep_layers(model, [0, 2])
    torch.testing.assert_close(masked_logits(model, {}), expected)
