"""The states that are compared are those of the pairs of layers, on rows that are comparable."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from rarefy.pipeline.tasks.shared import losses
from rarefy.stages.teachers.state_losses import PROJECTIONS, StateLoss, remove_projections


class Student(torch.nn.Module):
    config = SimpleNamespace(hidden_size=4)


def loss_of(pairs, weight=1.0, widths=(8, 8)) -> StateLoss:
    return StateLoss(pairs, weight, widths, [True, False, True])


def test_pairs_of_layers_share_the_weight():
    torch.manual_seed(0)
    states = {layer: torch.randn(2, 4, 8) for layer in (0, 1)}
    teacher_states = [torch.randn(2, 4, 8) for _ in range(2)]
    mask = torch.ones(2, 4, dtype=torch.long)
    both = loss_of([(0, 1), (1, 3)], weight=2.0)
    assert (both.student_layers, both.teacher_layers) == ([0, 1], [1, 3])
    loss = both.compute(Student(), states, teacher_states, [0, 1], mask)
    expected = sum(losses.hidden(states[at], teacher_states[at], mask) for at in (0, 1))
    assert loss.item() == pytest.approx(expected.item())


def test_the_states_of_a_layer_that_teaches_several_are_stored_once():
    assert loss_of([(0, 5), (1, 5)]).teacher_layers == [5]


def test_the_loss_is_of_the_rows_that_are_named_only():
    torch.manual_seed(0)
    states, teacher_states = {0: torch.randn(3, 6, 8)}, [torch.randn(2, 4, 8)]
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    loss = loss_of([(0, 5)], 0.5).compute(Student(), states, teacher_states, [0, 2], mask)
    expected = 0.5 * losses.hidden(states[0][[0, 2], :4], teacher_states[0], mask)
    assert loss.item() == pytest.approx(expected.item())


def test_a_projection_is_learned_only_where_widths_differ():
    narrow = Student()
    loss_of([(0, 0), (1, 1)], widths=(4, 6)).attach_projections(narrow)
    assert [tuple(each.weight.shape) for each in getattr(narrow, PROJECTIONS)] == [(6, 4)] * 2
    remove_projections(narrow)
    assert not list(narrow.parameters())
    plain = Student()
    loss_of([(0, 0)], widths=(4, 4)).attach_projections(plain)
    assert not hasattr(plain, PROJECTIONS)
