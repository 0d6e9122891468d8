"""The loss of facts: in both directions, and without counting what is true in the batch."""

from __future__ import annotations

import pytest
import torch

from rarefy.pipeline.tasks.embeddings import similarity
from rarefy.stages.inject import contrast

QUERIES = torch.tensor([[1.0, 0.2, 0.0], [0.1, 1.0, 0.3], [0.0, 0.4, 1.0]])
OBJECTS = torch.tensor([[0.9, 0.1, 0.1], [0.3, 0.8, 0.0], [0.2, 0.0, 1.0]])


def batch(queries: list[int], objects: list[int]) -> dict[str, torch.Tensor]:
    """Return a batch of texts of one token each, their number."""
    ids = {"input_ids": torch.tensor(queries)[:, None]}
    ids["positive.input_ids"] = torch.tensor(objects)[:, None]
    for key in tuple(ids):
        mask = key.replace("input_ids", "attention_mask")
        ids[mask] = torch.ones(len(queries), 1, dtype=torch.long)
    return ids


def embed(model: dict[int, torch.Tensor], texts: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack([model[int(number)] for number in texts["input_ids"][:, 0]])


MODEL = dict(enumerate([*QUERIES, *OBJECTS]))


def test_the_loss_is_the_mean_of_both_directions() -> None:
    cosines = torch.nn.functional.normalize(QUERIES) @ torch.nn.functional.normalize(OBJECTS).T
    logits, right = similarity.SCALE * cosines, torch.arange(3)
    expected = torch.nn.functional.cross_entropy(logits, right)
    expected += torch.nn.functional.cross_entropy(logits.T, right)
    found = contrast.loss(embed, MODEL, batch([0, 1, 2], [3, 4, 5]))
    assert found.item() == pytest.approx(expected.item() / 2)


def test_an_object_of_two_queries_counts_against_neither() -> None:
    """In a batch where all have the same object, there is nothing to tell apart."""
    assert contrast.loss(embed, MODEL, batch([0, 1, 2], [3, 3, 3])).item() == pytest.approx(0)
