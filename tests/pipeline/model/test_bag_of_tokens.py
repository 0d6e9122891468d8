"""The bag of tokens: order counts through pairs only, and padding not at all."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from rarefy.pipeline.model.bag_of_tokens import (
    PRIMES,
    BagOfTokensConfig,
    BagOfTokensForSequenceClassification,
)


def model(buckets=0, vocabulary=50):
    torch.manual_seed(0)
    config = BagOfTokensConfig(vocabulary, hidden_size=8, buckets=buckets, intermediate_size=6)
    return BagOfTokensForSequenceClassification(config).eval()


def of(network, *rows):
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    with torch.no_grad():
        return network(input_ids=ids, attention_mask=mask).logits


@pytest.mark.parametrize("buckets", [0, 32])
def test_padding_changes_nothing(buckets):
    network = model(buckets)
    alone = of(network, [3, 4, 5])
    assert torch.allclose(of(network, [3, 4, 5], [7, 8, 9, 10, 11])[:1], alone, atol=1e-6)


def test_the_order_of_tokens_counts_only_with_pairs():
    assert torch.allclose(of(model(), [3, 4, 5]), of(model(), [5, 3, 4]), atol=1e-6)
    assert not torch.allclose(of(model(32), [3, 4, 5]), of(model(32), [5, 3, 4]), atol=1e-3)


def test_mean_and_greatest_value_are_side_by_side():
    network = model()
    rows = network.bag_of_tokens.embeddings.weight[[3, 4]]
    with torch.no_grad():
        bag = network.bag_of_tokens(torch.tensor([[3, 4]])).last_hidden_state[0]
    assert torch.allclose(bag, torch.cat([rows.mean(0), rows.max(0).values]))


def test_pairs_of_large_ids_have_a_bucket():
    network = model(buckets=7, vocabulary=250_002)
    ids = [250_001, 250_000, 1]
    expected = [(own * PRIMES[0] + before * PRIMES[1]) % 7 for before, own in pairwise([0, *ids])]
    assert network.bag_of_tokens.hashed(torch.tensor([ids])).tolist() == [expected]


def test_transformers_loads_a_student_with_the_buckets_that_it_had(tmp_path):
    network = model(buckets=32)
    network.save_pretrained(str(tmp_path))
    loaded = BagOfTokensForSequenceClassification.from_pretrained(str(tmp_path)).eval()
    assert torch.equal(of(loaded, [3, 4, 5]), of(network, [3, 4, 5]))
