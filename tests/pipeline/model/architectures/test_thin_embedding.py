"""A narrow table and a matrix stand for a table of embeddings."""

from __future__ import annotations

import torch

from rarefy.pipeline.model.architectures.thin_embedding import ThinEmbedding


def test_it_has_the_sizes_and_the_padding_of_what_it_stands_for():
    thin = ThinEmbedding(30, 4, 16, padding_idx=2)
    assert (thin.num_embeddings, thin.embedding_dim, thin.padding_idx) == (30, 16, 2)
    ids = torch.tensor([[1, 2, 3]])
    assert thin(ids).shape == (1, 3, 16)
    assert torch.allclose(thin(ids)[0, 0], thin.up.weight @ thin.table.weight[1], atol=1e-6)
    assert not thin(ids)[0, 1].any()
