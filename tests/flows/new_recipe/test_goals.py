"""The goals of a new recipe, with labels and without."""

from __future__ import annotations

import pytest

from rarefy.flows.new_recipe.goals import GOALS


@pytest.mark.parametrize("name", GOALS)
def test_without_labels_the_model_itself_is_the_teacher(name: str) -> None:
    goal = GOALS[name].without_labels()
    lines = " ".join((*goal.stages, *goal.budgets))
    assert "finetune" not in lines
    assert goal.budgets[0].startswith("{metric: agreement, min: 95%}")
    assert "against: model" in lines
    assert len(goal.budgets) == len(GOALS[name].budgets)


@pytest.mark.parametrize("name", GOALS)
def test_a_trained_model_is_the_teacher_of_the_same_stages(name: str) -> None:
    goal, trained = GOALS[name], GOALS[name].for_trained_model()
    assert trained.stages == goal.stages[1:]
    assert [b.replace("against: model", "against: finetune") for b in trained.budgets] == [
        *goal.budgets
    ]
    assert "finetune" not in " ".join((*trained.stages, *trained.budgets))


@pytest.mark.parametrize("name", GOALS)
def test_with_labels_the_main_metric_is_the_tasks(name: str) -> None:
    assert GOALS[name].budgets[0].startswith("{metric: {main}, ")
