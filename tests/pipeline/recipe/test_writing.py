"""A recipe as the YAML that it equals."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.recipe import recipe as recipes
from tests.project import Project, Said


def test_show_prints_a_recipe_that_means_the_same(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    budget = "budgets:\n  - {metric: accuracy, max_drop: 3 %, against: head}\n"
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=budget)
    said = rarefy("recipe", "show", recipe)
    assert "# Put a fresh head on, without training." in said.out
    assert "scale: 1.0" in said.out
    shown = project.folder / "shown.yaml"
    shown.write_text(said.out)
    first, second = recipes.load(recipe), recipes.load(shown)
    assert [(s.id, s.stage, s.input) for s in first.steps] == [
        (s.id, s.stage, s.input) for s in second.steps
    ]
    parts = ("name", "model", "data", "targets", "budgets", "seed")
    for part in parts:
        assert getattr(first.recipe, part) == getattr(second.recipe, part)


def test_show_writes_a_regression_above_100_percent_with_its_sign(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    budget = "budgets: {metric: size, max_regression: 900 %, against: production}\n"
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=budget)
    shown = project.folder / "shown.yaml"
    shown.write_text(rarefy("recipe", "show", recipe).out)
    assert recipes.load(shown).recipe.budgets == recipes.load(recipe).recipe.budgets
