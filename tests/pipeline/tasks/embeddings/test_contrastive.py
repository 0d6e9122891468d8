"""The loss of rows of two or three texts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rarefy.pipeline.tasks.embeddings import contrastive as lessons
from rarefy.pipeline.tasks.embeddings import similarity

TABLE = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))


def embed(model: Any, batch: Any) -> torch.Tensor:
    """Return the sum of the tokens' vectors, without padding."""
    assert set(batch) == {"input_ids", "attention_mask"}
    return (TABLE[batch["input_ids"]] * batch["attention_mask"][:, :, None]).sum(dim=1)


def part(begin: str, *rows: list[int]) -> dict[str, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return {f"{begin}input_ids": ids, f"{begin}attention_mask": (ids > 0).long()}


def test_pairs_with_scores_are_ordered():
    batch = part("", [1], [2, 3], [4]) | part("positive.", [5, 6], [7], [8])
    batch["labels"] = torch.tensor([3.0, 1.0, 2.0])
    first, second = TABLE[[1, 2, 4]], TABLE[[5, 7, 8]]
    first[1], second[0] = TABLE[2] + TABLE[3], TABLE[5] + TABLE[6]
    cosines = torch.nn.functional.cosine_similarity(first, second)
    want = similarity.order(cosines, batch["labels"])
    assert lessons.loss(embed, None, batch).item() == pytest.approx(want.item())


def test_a_query_is_told_from_other_documents_but_not_from_its_own_text():
    batch = part("", [1], [2], [3]) | part("positive.", [5, 6], [7], [5, 6])
    batch["labels"] = torch.full((3,), torch.nan)
    documents = torch.stack([TABLE[5] + TABLE[6], TABLE[7], TABLE[5] + TABLE[6]])
    same = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=torch.bool)
    want = similarity.ranking(TABLE[[1, 2, 3]], documents, same)
    assert lessons.loss(embed, None, batch).item() == pytest.approx(want.item())


def test_other_documents_of_the_same_query_are_not_counted_against_it():
    """Query 1 has two documents, and should not find its own negative, 9."""
    batch = part("", [1, 4], [2], [1, 4]) | part("positive.", [5], [7], [8, 6])
    batch |= part("negative.", [9], [8, 6], [8, 6])
    batch["labels"] = torch.full((3,), torch.nan)
    both = TABLE[8] + TABLE[6]
    documents = torch.stack([TABLE[5], TABLE[7], both, TABLE[9], both, both])
    right = torch.tensor([[1, 0, 1, 0, 1, 1], [0, 1, 0, 0, 0, 0], [1, 0, 1, 0, 1, 1]]).bool()
    queries = torch.stack([TABLE[1] + TABLE[4], TABLE[2], TABLE[1] + TABLE[4]])
    want = similarity.ranking(queries, documents, right)
    assert lessons.loss(embed, None, batch).item() == pytest.approx(want.item())


@pytest.mark.parametrize(("wrong", "others"), [([], [1, 2, 1]), ([[4], [4], [23]], [2, 4, 2])])
def test_equal_texts_are_not_counted_against_each_other(wrong, others):
    """Each query is its document, and two of the three are equal.

    By hand: log(1 + n · exp(20 · (cosine − 1))), with the n documents that differ from its own.
    """
    batch = part("", [4], [23], [4]) | part("positive.", [4], [23], [4])
    if wrong:
        batch |= part("negative.", *wrong)
    batch["labels"] = torch.full((3,), torch.nan)
    cosine = torch.nn.functional.cosine_similarity(TABLE[4], TABLE[23], dim=0)  # 0.96
    want = torch.log1p(torch.tensor(others) * torch.exp(20 * (cosine - 1))).mean()
    assert lessons.loss(embed, None, batch).item() == pytest.approx(want.item(), rel=1e-5)


def test_negatives_are_further_documents_unless_they_are_the_positive():
    batch = part("", [1], [2]) | part("positive.", [5], [7]) | part("negative.", [9, 8, 6], [7])
    batch["labels"] = torch.full((2,), torch.nan)
    documents = torch.stack([TABLE[5], TABLE[7], TABLE[9] + TABLE[8] + TABLE[6], TABLE[7]])
    same = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 1]], dtype=torch.bool)
    want = similarity.ranking(TABLE[[1, 2]], documents, same)
    assert lessons.loss(embed, None, batch).item() == pytest.approx(want.item())
