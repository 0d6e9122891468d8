"""A share of a reference that has learned nothing is inconclusive, whatever it is."""

from __future__ import annotations

import numpy as np
import pytest

from rarefy.pipeline.measure.measurements import Latency, Measurements, ModelMeasurement
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.pipeline.verdict.judge import judge

TRUTH = [0, 1] * 50
TIMES = [[1.0 + at / 100 for at in range(20)] for _ in range(6)]


def measured(teacher: list[int]) -> Measurements:
    def model(answers: list[int], size: int) -> ModelMeasurement:
        table = np.eye(2)[answers].tolist()
        return ModelMeasurement(digest=f"d{size}", size=size, answers=table)

    return Measurements(
        machine={},
        task="text-classification",
        labels=["no", "yes"],
        truth=TRUTH,
        models={"candidate": model(TRUTH, 10), "teacher": model(teacher, 100)},
        latency={"cpu": Latency(samples={"candidate": TIMES, "teacher": TIMES})},
        aliases={"twin": "teacher"},
    )


BUDGETS = [
    {"metric": "accuracy", "min_retained": 0.9, "against": "teacher"},
    {"metric": "accuracy", "max_drop": 0.1, "against": "twin"},
    {"metric": "size", "min_shrink": 4, "against": "teacher"},
    {"metric": "agreement", "min": 0.1},
    {"metric": "kl", "max": 99},
    {"metric": "speedup", "min": 0.01},
]


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_budget_against_a_model_that_guesses_is_inconclusive(budget: dict[str, object]) -> None:
    asked = [Budget.model_validate(budget)]
    guessing = [0] * 50 + [1] * 50
    verdict = judge(asked, (Target(),), measured(guessing))
    assert verdict.outcome == "inconclusive"
    name = budget.get("against", "teacher")
    assert f"inconclusive because {name} is no better than a trivial baseline: its accuracy" in (
        verdict.budgets[0].reason
    )
    assert (verdict.exit_code(False), verdict.exit_code(True)) == (0, 4)


@pytest.mark.parametrize("budget", BUDGETS)
def test_it_is_judged_against_one_that_has_learned(budget: dict[str, object]) -> None:
    verdict = judge([Budget.model_validate(budget)], (Target(),), measured(TRUTH))
    assert verdict.outcome == "pass"


def test_bounds_without_a_reference_are_judged_as_ever() -> None:
    budgets = [Budget(metric="accuracy", min=0.9), Budget(metric="size", max=50)]
    verdict = judge(budgets, (Target(),), measured([0] * 100))
    assert [budget.outcome for budget in verdict.budgets] == ["pass", "pass"]
