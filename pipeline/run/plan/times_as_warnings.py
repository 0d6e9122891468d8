"""Budgets on times as warnings, for a machine whose timings are noise: a shared CI runner."""

from __future__ import annotations

from dataclasses import replace

from rarefy.pipeline.recipe.recipe import LoadedRecipe
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.metrics import known

OPTION = "--latency warn"


def with_times_as_warnings(loaded: LoadedRecipe) -> LoadedRecipe:
    """Return the recipe with the level ``warn`` at every budget on a time or a speed-up.

    Raises RecipeError if no other budget would decide anything.
    """
    budgets = []
    for budget in loaded.recipe.budgets:
        if is_on_times(budget):
            budget = budget.model_copy(update={"level": "warn"})
        budgets.append(budget)
    if all(budget.level == "warn" for budget in budgets):
        raise RecipeError(
            f"{OPTION}: no other budget decides anything, so this gate would let everything pass; "
            "add one on quality or size, or run it on a quiet machine with --latency strict"
        )
    recipe = loaded.recipe.model_copy(update={"budgets": tuple(budgets)})
    return replace(loaded, recipe=recipe, times_warn=True)


def is_on_times(budget: Budget) -> bool:
    """Return whether a budget bounds what a clock has measured."""
    metric = known(budget.metric)
    return metric.timed or metric.kind == "cold_start"


def sentences(loaded: LoadedRecipe) -> list[str]:
    """Return which budgets on times are warnings, and what would judge them; [] if none is."""
    names = []
    for budget in loaded.recipe.budgets:
        if is_on_times(budget):
            names.append(f"{budget.metric} {budget.form}")
    if not names:
        return []
    return [
        f"latency decides nothing in this run ({OPTION}); warnings only: {', '.join(names)}. "
        "To judge it, run on a quiet machine, one job at a time, with --latency strict"
    ]
