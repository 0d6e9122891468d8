"""The losses, checked against numbers from their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from rarefy.pipeline.data.table import IGNORED
from rarefy.pipeline.tasks.shared import losses


def test_soft_is_the_divergence_of_the_softened_answers_times_t_squared():
    # Teacher (0.8, 0.2), student (0.5, 0.5): 0.8 ln 1.6 + 0.2 ln 0.4.
    teacher, student = torch.tensor([[math.log(4.0), 0.0]]), torch.zeros(1, 2)
    expected = 0.8 * math.log(1.6) + 0.2 * math.log(0.4)
    assert losses.soft(student, teacher, 1.0).item() == pytest.approx(expected, abs=1e-6)
    # At T = 2 the teacher's odds are 2 : 1.
    softened = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert losses.soft(student, teacher, 2.0).item() == pytest.approx(4 * softened, abs=1e-6)


def test_soft_is_zero_for_the_teacher_itself_and_averages_over_rows():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert losses.soft(logits, logits + 7.0, 3.0).item() == pytest.approx(0.0, abs=1e-6)
    other = torch.zeros(5, 3)
    rows = [losses.soft(other[i : i + 1], logits[i : i + 1], 1.5).item() for i in range(5)]
    assert losses.soft(other, logits, 1.5).item() == pytest.approx(sum(rows) / 5, rel=1e-5)


def test_hard_counts_only_rows_with_a_label():
    logits = torch.tensor([[0.0, math.log(3.0)], [5.0, -5.0]])
    labels = torch.tensor([1, IGNORED])
    assert losses.hard(logits, labels).item() == pytest.approx(-math.log(0.75), abs=1e-6)
    nothing = losses.hard(logits, torch.tensor([IGNORED] * 2))
    assert nothing.item() == 0.0


def test_a_reranker_s_loss_is_the_cross_entropy_with_the_relevance():
    scores, goal = torch.tensor([0.0, 2.0, -1.0, 9.0]), torch.tensor([1.0, 0.5, 0.0, math.nan])
    group = torch.arange(4)  # no pairs
    each = [
        -(share * math.log(p) + (1 - share) * math.log(1 - p))
        for share, p in ((1.0, 0.5), (0.5, 1 / (1 + math.exp(-2))), (0.0, 1 / (1 + math.e)))
    ]
    found = losses.relevance(scores, goal, group, total=True).item()
    assert found == pytest.approx(sum(each), rel=1e-5)
    assert losses.relevance(scores, goal, group).item() == pytest.approx(found / 3, rel=1e-5)
    assert losses.relevance(scores, goal * math.nan, group).item() == 0


def test_squared_errors_of_rows_without_a_score_do_not_count():
    scores, goal = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, math.nan, 5.0])
    assert losses.squared(scores, goal, total=True).item() == 5
    assert losses.squared(scores, goal).item() == 2.5


def test_binary_is_the_mean_over_labels_and_over_rows_with_flags():
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0], [9.0, 9.0]])
    flags = torch.tensor([[1, 0], [0, 0], [IGNORED] * 2])
    rows = [(math.log(2) + math.log(4)) / 2, math.log(2)]
    assert losses.binary(logits, flags).item() == pytest.approx(sum(rows) / 2, abs=1e-6)
    assert losses.binary(logits, flags, total=True).item() == pytest.approx(sum(rows), abs=1e-6)
    assert losses.binary(logits[2:], flags[2:]).item() == 0.0


def test_soft_binary_is_least_at_the_teachers_answers_whose_gradient_keeps_its_scale():
    teacher = torch.tensor([[math.log(4.0), 0.0]])
    # The teacher says 0.8 and 0.5, the student 0.5 and 0.5: ln 2 whatever the teacher says.
    student = torch.zeros(1, 2, requires_grad=True)
    loss = losses.soft_binary(student, teacher, 1.0)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)
    loss.backward()
    assert student.grad is not None
    assert student.grad.tolist()[0] == pytest.approx([(0.5 - 0.8) / 2, 0.0], abs=1e-6)
    # At T = 2 the teacher's odds are 2 : 1, and T² / T is 2.
    student.grad = None
    losses.soft_binary(student, teacher, 2.0).backward()
    assert student.grad.tolist()[0] == pytest.approx([2 * (1 / 2 - 2 / 3) / 2, 0.0], abs=1e-6)


def test_the_order_of_rows_is_the_log_loss_of_the_margins_of_pairs_of_a_group():
    scores = torch.tensor([1.0, 3.0, 0.0, 5.0, 9.0])
    goal, group = torch.tensor([1.0, 0.0, 0.5, 0.0, math.nan]), torch.tensor([7, 7, 7, 8, 7])
    margins = (1.0 - 3.0, 1.0 - 0.0, 0.0 - 3.0)
    expected = sum(math.log(1 + math.exp(-margin)) for margin in margins) / 3
    assert losses.order(scores, goal, group).item() == pytest.approx(expected, rel=1e-6)
    alone = losses.relevance(scores, goal, torch.arange(5)).item()
    both = losses.relevance(scores, goal, group).item()
    assert both == pytest.approx(alone + expected, rel=1e-6)
    assert losses.order(scores, goal, torch.arange(5)).item() == 0
