"""A new head is fitted to what the frozen body says of the training rows."""

from __future__ import annotations

import torch

from rarefy.pipeline.model import checkpoint
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
