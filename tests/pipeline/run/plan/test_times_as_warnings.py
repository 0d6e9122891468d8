"""Budgets on times as warnings: only those, and never all that decides."""

from __future__ import annotations

import pytest

from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.recipe.recipe import LoadedRecipe
from rarefy.pipeline.run.plan import times_as_warnings
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.terms.errors import RecipeError
from tests.project import Project

BUDGETS = """budgets:
  - {metric: accuracy, min: 50 %}
  - {metric: latency_p50, max: 5 ms}
  - {metric: latency_p50, min_speedup: 2x, against: model}
  - {metric: cold_start, max: 2 s}
  - {metric: size, max: 1 MB}
  - {metric: memory, max: 1 GB}
"""


def said(project: Project, loaded: LoadedRecipe) -> list[str]:
    """Return what a plan says of times that decide nothing."""
    warnings = Plan(loaded, Store(project.home / "store")).warnings
    return [warning for warning in warnings if "decides nothing" in warning]


def test_what_a_clock_measures_is_a_warning_and_the_rest_decides(project: Project) -> None:
    loaded = recipes.load(project.recipe("quickstages:Head", budgets=BUDGETS))
    assert said(project, loaded) == []
    lowered = times_as_warnings.with_times_as_warnings(loaded)
    levels = [budget.level for budget in lowered.recipe.budgets]
    assert levels == ["error", "warn", "warn", "warn", "error", "error"]
    (sentence,) = said(project, lowered)
    assert "latency_p50 max, latency_p50 min_speedup, cold_start max. To judge it" in sentence


def test_a_gate_in_which_nothing_would_decide_is_refused(project: Project) -> None:
    budgets = """budgets:
  - {metric: latency_p50, max: 5 ms}
  - {metric: size, max: 1 MB, level: warn}
"""
    loaded = recipes.load(project.recipe("quickstages:Head", budgets=budgets))
    with pytest.raises(RecipeError, match="--latency warn: no other budget decides anything"):
        times_as_warnings.with_times_as_warnings(loaded)


def test_without_a_budget_on_times_nothing_is_said(project: Project) -> None:
    budgets = "budgets: [{metric: size, max: 1 MB}]\n"
    loaded = recipes.load(project.recipe("quickstages:Head", budgets=budgets))
    lowered = times_as_warnings.with_times_as_warnings(loaded)
    assert times_as_warnings.sentences(lowered) == []
