"""A new head is fitted to what the frozen body says of the training rows."""

from __future__ import annotations

from dataclasses import replace

import torch

from rarefy.pipeline import tasks
from rarefy.pipeline.data.table import IGNORED
from rarefy.pipeline.model import checkpoint
from rarefy.stages.training.head_start import fit_head, fit_new_head


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


def test_rows_without_a_label_are_left_out(tuned, make_context):
    split = make_context(rows=64).split("train")
    networks = []
    for labels in (split.labels[:32], [*split.labels[:32], *[IGNORED] * 32]):
        texts = split.texts[: len(labels)]
        network = checkpoint.load(tuned.directory)
        rows = replace(split, texts=texts, labels=labels)
        fit_head(
            make_context(splits={"train": rows}),
            network,
            checkpoint.load_tokenizer(tuned.directory),
        )
        networks.append(network.classifier.weight)
    assert torch.allclose(*networks, atol=1e-2)


def test_without_a_label_the_head_stays_as_it_is(tuned, make_context):
    split = make_context(rows=8).split("train")
    context = make_context(splits={"train": replace(split, labels=[IGNORED] * 8)})
    network = checkpoint.load(tuned.directory)
    before = network.classifier.weight.clone()
    fit_head(context, network, checkpoint.load_tokenizer(tuned.directory))
    assert torch.equal(network.classifier.weight, before)


def test_a_head_without_a_bias_stays_as_it_is(tiny_encoder, make_context):
    """A decoder's reads every token."""
    context = make_context(rows=8)
    network = context.task.head.load(str(tiny_encoder.directory))
    network.classifier.bias = None
    before = network.classifier.weight.clone()
    fit_new_head(context, tiny_encoder, network, None)
    assert torch.equal(network.classifier.weight, before)


def test_the_head_of_a_task_without_classes_stays_as_it_is(tiny_encoder, make_context):
    context = replace(make_context(rows=8), task=tasks.find("regression"))
    network = context.task.head.load(str(tiny_encoder.directory))
    before = network.classifier.weight.clone()
    fit_new_head(context, tiny_encoder, network, None)
    assert torch.equal(network.classifier.weight, before)
