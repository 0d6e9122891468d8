"""A new head is fitted to what the frozen body says of the training rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.training.head_start import fit_head


def test_the_head_is_fitted_and_nothing_else_changes(tuned, make_context):
    context = make_context(rows=64)
    network = checkpoint.load(tuned.directory)
    tokenizer = checkpoint.load_tokenizer(tuned.directory)
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.bias.zero_()
    body = {name: tensor.clone() for name, tensor in network.base_model.state_dict().items()}

    fit_head(context, network, tokenizer)

    train = context.split("train")
    batch = tokenizer(list(train.texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        predictions = network(**batch).logits.argmax(-1)
    assert (predictions == torch.tensor(train.labels)).float().mean() > 0.95
    for name, tensor in network.base_model.state_dict().items():
        assert torch.equal(tensor, body[name]), name


def test_a_class_without_rows_can_still_be_learned(tuned, make_context):
    """Its bias would go down without an end, since no row asks for it."""
    rows = make_context(rows=64).split("train")
    context = make_context(splits={"train": replace(rows, labels=[0] * 64)})
    network = checkpoint.load(tuned.directory)
    fit_head(context, network, checkpoint.load_tokenizer(tuned.directory))
    texts = list(rows.texts)
    tokenizer = checkpoint.load_tokenizer(tuned.directory)
    with torch.no_grad():
        logits = network(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    assert logits.softmax(-1)[:, 1].min() > 1e-3


def test_a_head_without_a_bias_is_refused(tuned, make_context):
    network = checkpoint.load(tuned.directory)
    network.classifier.bias = None
    with pytest.raises(ModelError, match="fit_head: this model's head has no bias; leave it out"):
        fit_head(make_context(rows=8), network, None)
