"""The states that are compared are those that were asked for, on rows that are alike."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from pipeline.stage import losses
from stages import aims
from stages.aims import Aims
from stages.internals import Captured, Internal
from stages.schedule import Clock


def student(width=4):
    return SimpleNamespace(config=SimpleNamespace(hidden_size=width))


def test_pairs_of_layers_share_the_weight():
    made = aims.of_hidden([(0, 1), (1, 3)], 2.0, "mse", (8, 8))
    assert [aim.weight for aim in made] == [1, 1]
    assert [(aim.own[0].layer, aim.theirs[0].layer) for aim in made] == [(0, 1), (1, 3)]
    assert all(aim.projection is None for aim in made)


def test_the_loss_is_of_the_rows_that_are_named_only():
    torch.manual_seed(0)
    one, other = Internal("hidden", 0), Internal("hidden", 5)
    found = Captured()
    found.note(one, torch.randn(3, 6, 8))
    kept = [torch.randn(2, 4, 8)]
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    (aim,) = aims.of_hidden([(0, 5)], 0.5, "mse", (8, 8))
    both = Aims([aim], [True, False, True])
    assert (both.own, both.theirs) == ([one], [other])
    loss = both.loss(student(), found, kept, [0, 2], mask)
    expected = 0.5 * losses.hidden(found[one][[0, 2], :4], kept[0], mask)
    assert loss.item() == pytest.approx(expected.item())
    (falls,) = aims.of_hidden([(0, 5)], (0.5, 0.1), "mse", (8, 8))
    loss = Aims([falls]).loss(student(), found, kept, [0, 2], mask, Clock(0.25))
    assert loss.item() == pytest.approx(0.8 * expected.item())


@pytest.mark.parametrize(
    ("how", "of_lengths", "of_later_tokens"),
    [("mse", True, True), ("cosine", False, True), ("patience", False, False)],
)
def test_each_loss_of_hidden_states_pulls_in_its_own_way(how, of_lengths, of_later_tokens):
    """By their definitions: an angle has no length, and patience reads the first token alone."""
    torch.manual_seed(0)
    own, theirs = torch.randn(2, 4, 8, requires_grad=True), torch.randn(2, 4, 8)
    found = Captured()
    found.note(Internal("hidden", 0), own)
    made = Aims(aims.of_hidden([(0, 5)], 1.0, how, (8, 8)))
    loss = made.loss(student(), found, [theirs], [0, 1], torch.ones(2, 4, dtype=torch.long))
    (gradient,) = torch.autograd.grad(loss, own)
    assert gradient[:, 0].any()
    assert bool(gradient[:, 1:].any()) == of_later_tokens
    along = (gradient * own).sum(dim=-1)
    assert bool(along.abs().max() > 1e-4) == of_lengths


def test_states_that_several_aims_share_are_kept_once():
    relation = aims.of_relations(1, 5, 1.0, 2)
    attention = aims.of_attention(1, 5, 0.5, 2)
    both = Aims([relation, attention])
    assert both.own == [Internal(kind, 1) for kind in ("query", "key", "value")]
    assert both.theirs == [Internal(kind, 5) for kind in ("query", "key", "value")]
    torch.manual_seed(0)
    found, mask = Captured(), torch.ones(2, 4, dtype=torch.long)
    own, theirs = ([torch.randn(2, 4, width) for _ in range(3)] for width in (8, 12))
    for state, value in zip(both.own, own, strict=True):
        found.note(state, value)
    expected = (
        losses.relation((own[0], own[1]), (theirs[0], theirs[1]), mask, 2)
        + losses.relation((own[2], own[2]), (theirs[2], theirs[2]), mask, 2)
    ) / 2 + 0.5 * losses.attention((own[0], own[1]), (theirs[0], theirs[1]), mask, 2)
    loss = both.loss(student(), found, theirs, [0, 1], mask)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_projection_is_learned_only_where_widths_differ():
    class Small(torch.nn.Module):
        config = SimpleNamespace(hidden_size=4)

    narrow = Small()
    made = Aims(aims.of_hidden([(0, 0), (1, 1)], 1.0, "cosine", (4, 6)))
    aims.project(narrow, made)
    assert [tuple(each.weight.shape) for each in getattr(narrow, aims.PROJECTIONS)] == [(6, 4)] * 2
    plain = Small()
    aims.project(plain, Aims(aims.of_hidden([(0, 0)], 1.0, "mse", (4, 4))))
    assert not hasattr(plain, aims.PROJECTIONS)
