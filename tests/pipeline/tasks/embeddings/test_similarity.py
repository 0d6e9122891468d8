"""Pooling is sentence-transformers' own, and the losses are what their papers say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from rarefy.pipeline.model.pooling import Pooling
from rarefy.pipeline.tasks.embeddings import similarity

MASKS = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0]])


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("mode", "theirs"), [("mean", "mean"), ("cls", "cls"), ("last", "lasttoken")]
)
def test_pooling_is_that_of_sentence_transformers(mode, theirs):
    from sentence_transformers.models import Pooling as Reference

    hidden, masks = draw(4, 4, 6), MASKS if mode != "cls" else MASKS.sort(descending=True)[0]
    given = {"token_embeddings": hidden.clone(), "attention_mask": masks}
    want = Reference(6, pooling_mode=theirs)(given)["sentence_embedding"]
    found = similarity.pooled(hidden, masks, Pooling(mode, normalize=False))
    assert torch.allclose(found, want, atol=1e-6)
    unit = similarity.pooled(hidden, masks, Pooling(mode, normalize=True))
    assert torch.allclose(unit, functional.normalize(want), atol=1e-6)


def test_padding_changes_no_embedding():
    hidden = draw(1, 3, 5)
    padded = torch.cat([hidden, draw(1, 2, 5, seed=1)], dim=1)
    for mode in ("mean", "cls", "last"):
        alone = similarity.pooled(hidden, torch.ones(1, 3, dtype=torch.long), Pooling(mode))
        beside = similarity.pooled(padded, torch.tensor([[1, 1, 1, 0, 0]]), Pooling(mode))
        assert torch.allclose(alone, beside)


def test_ranking_is_the_cross_entropy_of_scaled_cosines():
    queries, documents = draw(3, 5), draw(4, 5, seed=1)
    same = torch.eye(3, 4, dtype=torch.bool)
    cosines = functional.cosine_similarity(queries[:, None], documents[None], dim=2)
    want = -(20 * cosines).log_softmax(dim=1)[range(3), range(3)].mean()
    assert similarity.ranking(queries, documents, same).item() == pytest.approx(want.item())


def test_a_document_that_two_queries_share_is_not_counted_against_either():
    queries, documents = draw(2, 5), draw(2, 5, seed=1)
    documents[1] = documents[0]
    same = torch.ones(2, 2, dtype=torch.bool)
    assert similarity.ranking(queries, documents, same).item() == pytest.approx(0, abs=1e-6)
    assert similarity.ranking(queries, documents, torch.eye(2, dtype=torch.bool)).item() > 0.5


def test_order_is_small_in_the_order_of_the_scores_and_large_in_the_opposite():
    cosines = torch.tensor([0.9, 0.1, -0.8])
    right = similarity.order(cosines, torch.tensor([5.0, 3.0, 1.0]))
    wrong = similarity.order(cosines, torch.tensor([1.0, 3.0, 5.0]))
    assert right.item() < 1e-6
    assert wrong.item() == pytest.approx(20 * 1.7, abs=1e-3)
    scaled = similarity.order(cosines, torch.tensor([0.1, 0.3, 0.5]))
    assert scaled.item() == wrong.item(), "only the order counts"
    with_none = similarity.order(cosines, torch.tensor([5.0, float("nan"), 1.0]))
    assert with_none.item() < 1e-6


def test_imitation_is_nothing_for_equal_directions_and_has_both_terms():
    teacher = draw(4, 6)
    assert similarity.imitation(3 * teacher, teacher).item() == pytest.approx(0, abs=1e-5)
    turned = torch.linalg.qr(draw(6, 6, seed=2))[0]
    own = functional.normalize(teacher @ turned)
    cosine = (own * functional.normalize(teacher)).sum(dim=1).mean()
    assert similarity.imitation(own, teacher).item() == pytest.approx(
        10 * (1 - cosine.item()), rel=1e-4
    ), "a rotation keeps all similarities"


def test_a_teacher_of_another_width_keeps_its_products():
    teacher = functional.normalize(draw(50, 3) @ draw(3, 8, seed=1)).double()  # of rank 3
    for width in (3, 5, 12):
        found = teacher @ similarity.fitting(teacher.float(), width)
        assert found.shape == (50, width)
        assert torch.allclose(found @ found.T, teacher @ teacher.T, atol=1e-5)
    assert torch.equal(found[:, :8], teacher)
    assert similarity.fitting(teacher, 8) is None


def test_the_principal_directions_are_those_of_all_parts(monkeypatch):
    teacher = functional.normalize(draw(60, 8))
    whole = similarity.fitting(teacher, 4)
    assert not torch.allclose(similarity.fitting(teacher[40:], 4).abs(), whole.abs(), atol=0.1)
    monkeypatch.setattr(similarity, "PART", 7)
    parts = similarity.fitting(teacher, 4)
    assert torch.allclose(parts.abs(), whole.abs(), atol=1e-6), "a direction has two signs"


def test_goals_are_turned_towards_a_student_and_keep_their_products():
    student = functional.normalize(draw(60, 4)).double()
    rotation = torch.linalg.qr(draw(4, 4, seed=2))[0].double()
    goals = 3 * student @ rotation.T
    found = goals @ similarity.turning(goals[:20], student[:20])
    assert torch.allclose(found, 3 * student, atol=1e-5)
    anew = draw(60, 4, seed=3)  # of a student that has learned nothing
    found = goals @ similarity.turning(goals, anew)
    assert torch.allclose(found @ found.T, goals @ goals.T, atol=1e-5)


def test_squared_gradients_of_random_signs_estimate_how_much_embeddings_move():
    jacobian = draw(6, 3).double()
    total = np.zeros(3)
    for seed in range(2000):
        at = torch.zeros(3, dtype=torch.double, requires_grad=True)
        similarity.projected((jacobian @ at)[None], seed).backward()
        total += at.grad.numpy() ** 2
    want = (jacobian**2).sum(dim=0).numpy()
    assert total / 2000 == pytest.approx(want, rel=0.15)
