"""Token embeddings as the product of a narrow table and a small matrix (ALBERT's factorization)."""

from __future__ import annotations

from torch import Tensor, nn


class ThinEmbedding(nn.Module):  # type: ignore[misc]
    """``up(table(ids))``: a table of vocabulary × rank, and rank × hidden numbers for all tokens.

    Lan et al. 2020, "ALBERT" (arXiv 1909.11942, §3.1). It stands where a model has ``nn.Embedding``
    for its tokens.
    """

    def __init__(
        self, vocabulary: int, rank: int, hidden: int, padding_idx: int | None = None
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, rank, padding_idx)
        self.up = nn.Linear(rank, hidden, bias=False)

    @property
    def num_embeddings(self) -> int:
        return int(self.table.num_embeddings)

    @property
    def embedding_dim(self) -> int:
        return int(self.up.out_features)

    @property
    def padding_idx(self) -> int | None:
        index: int | None = self.table.padding_idx
        return index

    def forward(self, ids: Tensor) -> Tensor:
        """Return the embeddings of token ids: … × hidden."""
        embeddings: Tensor = self.up(self.table(ids))
        return embeddings
