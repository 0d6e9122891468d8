"""A token's meaning is what the teacher makes of it where it occurs."""

from __future__ import annotations

import pytest
import torch

from rarefy.pipeline.model import checkpoint
from rarefy.stages.bag_of_tokens import token_means
from rarefy.stages.training import run as training


def test_a_token_is_the_mean_of_its_last_hidden_states(tuned, make_context):
    context = make_context(rows=12)
    network, tokenizer = training.open_network(context, tuned)
    rows = training.labelled_rows(context, tokenizer, context.split("train"))
    means, counts = token_means.token_means(context, network, tokenizer, rows, most=12)
    body, states = checkpoint.load(tuned.directory).base_model, {}
    for text in context.split("train").texts:
        batch = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            found = body(**batch).last_hidden_state[0]
        for token, state in zip(batch["input_ids"][0].tolist(), found, strict=True):
            states.setdefault(token, []).append(state)
    assert {token for token, count in enumerate(counts) if count} == set(states)
    for token, seen in states.items():
        assert counts[token] == len(seen)
        assert torch.allclose(means[token], torch.stack(seen).mean(0), atol=0.05)
    unseen = next(token for token in range(len(means)) if token not in states)
    assert means[unseen].abs().sum() > 0


def test_components_are_orthogonal_and_the_greatest_come_first():
    torch.manual_seed(0)
    means = torch.randn(200, 6) * torch.tensor([9.0, 5, 3, 1, 0.1, 0.1]) + 4
    table, kept = token_means.reduced(means, 3)
    assert table.shape == (200, 3)
    assert kept > 0.95
    gram = table.T @ table
    assert (gram - gram.diag().diag()).abs().max() < 1e-2 * gram.diagonal().min()
    assert gram[0, 0] > gram[1, 1] > gram[2, 2]
    assert float(table.std()) == pytest.approx(1)
