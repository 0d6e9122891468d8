"""Recipes before they run: shown, checked, copied, and the schema that editors read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from pipeline.recipe import recipe as recipes
from tests.project import Project, Said

SCHEMA = Path(__file__).parents[3] / "schema" / "recipe.schema.json"


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


def test_check_tells_all_recipes_and_fails_for_one(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    good = project.recipe("quickstages:Head", name="good")
    bad = project.recipe("quickstages:Judge", name="bad")
    said = rarefy("recipe", "check", bad, good)
    assert said.code == 2
    assert said.out == f"ok {good}\n"
    assert said.err.startswith(f"{bad}:6: ")
    assert "put 'finetune' before it" in said.err
    answers = json.loads(rarefy("recipe", "check", bad, good, "--json").out)
    assert [answer["ok"] for answer in answers] == [False, True]


def test_check_sees_a_missing_data_file(project: Project, rarefy: Callable[..., Said]) -> None:
    (project.folder / "eval.jsonl").unlink()
    said = rarefy("recipe", "check", project.recipe("quickstages:Head"))
    assert said.code == 2
    assert "data.eval: eval.jsonl: no such file" in said.err


def test_examples_are_listed_with_what_they_are_about(rarefy: Callable[..., Said]) -> None:
    listed = json.loads(rarefy("recipe", "ls", "--json").out)
    assert "demo" in [example["name"] for example in listed]
    assert all(example["about"] for example in listed)


def test_the_schema_in_the_repository_is_this_versions(rarefy: Callable[..., Said]) -> None:
    """Write it anew with: rarefy recipe schema > schema/recipe.schema.json."""
    assert json.loads(rarefy("recipe", "schema").out) == json.loads(SCHEMA.read_text())
