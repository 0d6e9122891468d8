"""A recipe written as the equivalent YAML, and a recipe made in Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import rarefy as front
from rarefy.flows.new_recipe.examples import Example, examples
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.recipe import writing
from tests.conftest import Workshop
from tests.project import Project, Said


def test_show_prints_a_recipe_that_means_the_same(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    budget = "budgets:\n  - {metric: accuracy, max_drop: 3 points, against: head}\n"
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=budget)
    said = rarefy("recipe", "show", recipe)
    assert "# Add a new head, and train it for a moment" in said.out
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


def test_show_explains_each_parameter_and_names_each_step(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    adapt = "{adapt: {rank: 4}, as: small, seed: 3}"
    recipe = project.recipe("finetune: {epochs: 1}", adapt, "merge")
    said = rarefy("recipe", "show", recipe)
    assert "      # Number of passes over the training rows\n      epochs: 1\n" in said.out
    assert "    as: merge\n    from: small\n" in said.out
    shown = project.folder / "shown.yaml"
    shown.write_text(said.out)
    assert recipes.load(shown).steps == recipes.load(recipe).steps


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_every_example_is_the_same_when_shown(example: Example, tmp_path: Path) -> None:
    loaded = recipes.load(example.path)
    (tmp_path / "shown.yaml").write_text(writing.as_yaml(loaded))
    shown = recipes.load(tmp_path / "shown.yaml")
    assert shown.steps == loaded.steps
    assert writing.as_values(shown) == writing.as_values(loaded)
    for part in ("name", "model", "task", "data", "targets", "budgets", "seed"):
        assert getattr(shown.recipe, part) == getattr(loaded.recipe, part)


def test_show_writes_a_regression_above_100_percent_with_its_sign(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    budget = "budgets: {metric: size, max_regression: 900 %, against: production}\n"
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=budget)
    shown = project.folder / "shown.yaml"
    shown.write_text(rarefy("recipe", "show", recipe).out)
    assert recipes.load(shown).recipe.budgets == recipes.load(recipe).recipe.budgets


def small(workshop: Workshop, *stages: object, **changes: object) -> object:
    given = {
        "model": "model",
        "data": front.Data(train="train.jsonl", eval="eval.jsonl"),
        "stages": stages,
        "budgets": [front.Budget(metric="accuracy", min="1 %")],
        "base": workshop.folder,
    }
    return front.Recipe("small", **given | changes)


def test_a_recipe_made_in_python_is_the_yaml_that_it_is_recorded_as(workshop, tmp_path):
    made = small(
        workshop,
        front.Finetune(epochs=1),
        front.step(front.Distill(keep_layers=1), id="tiny", input="finetune", seed=1),
        "export",
        targets=[front.Target(threads=2)],
        seed=3,
    )
    (tmp_path / "same.yaml").write_text(made.text)
    read = recipes.load(tmp_path / "same.yaml")
    assert read.recipe == made.recipe
    assert read.steps == made.steps
    assert [step.id for step in made.steps] == ["finetune", "tiny", "export"]
    assert (made.recipe.seed, made.recipe.targets[0].threads) == (3, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": Path("model")},
        {"data": front.Data(train=Path("train.jsonl"), eval=Path("eval.jsonl"))},
        {"data": {"train": Path("train.jsonl"), "eval": Path("eval.jsonl"), "text": ("text",)}},
        {"budgets": {"metric": "accuracy", "min": 0.5}},
        {"budgets": [{"metric": "accuracy", "min": np.float64(0.5)}], "seed": np.int64(3)},
        {"stages": front.Finetune(epochs=1)},
        {"stages": [{"finetune": {"epochs": np.int64(2)}}]},
        {"stages": ["finetune", front.Distill(keep_layers=1, alpha=1)]},
        {"targets": front.Target(threads=2)},
    ],
    ids=str,
)
def test_what_python_users_have_at_hand_is_taken(workshop, tmp_path, changes):
    given = {"stages": ["finetune"]} | changes
    made = small(workshop, **given)
    (tmp_path / "same.yaml").write_text(made.text)
    read = recipes.load(tmp_path / "same.yaml")
    assert (read.recipe, read.steps) == (made.recipe, made.steps)


@pytest.mark.parametrize(
    "stage",
    [
        {"quantize": {"mode": "search", "seconds": 180}},
        {"quantize": {"mode": "static"}},
        {"distill": {"keep_layers": 1, "alpha": 1}},
    ],
    ids=str,
)
def test_what_is_shown_names_no_parameter_that_would_be_refused(workshop, tmp_path, stage):
    made = small(workshop, "finetune", stage)
    (tmp_path / "shown.yaml").write_text(writing.as_yaml(made))
    assert recipes.load(tmp_path / "shown.yaml").steps == made.steps


def test_a_large_regression_is_recorded_with_its_sign(workshop):
    budget = front.Budget(metric="size", max_regression="150 %", against="production")
    made = small(workshop, "export", budgets=[budget])
    assert made.recipe.budgets == (budget,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stages": ["finetun"]}, r"recipe 'small': stages\[0\].*did you mean 'finetune'"),
        ({"data": {"train": "a"}}, r"recipe 'small': data\.eval: this key is required"),
        ({"data": "train.jsonl"}, r"recipe 'small': data: "),
        ({"budgets": ["accuracy"]}, r"recipe 'small': budgets\[0\]: "),
        ({"stages": [front.Finetune]}, r"recipe 'small': <class .*Finetune'> has no form in YAML"),
        ({"stages": [("finetune", {})]}, r"recipe 'small': stages\[0\]: "),
        ({"sed": 1}, r"recipe 'small': sed: unknown key, did you mean 'seed'"),
    ],
)
def test_what_is_wrong_is_named_without_a_line(workshop, changes, words):
    with pytest.raises(front.RecipeError, match=words):
        small(workshop, "finetune", **changes)


class Scale(front.Stage):
    """Copy a checkpoint."""

    name = "scale"
    factor: float = 1.0


def test_a_stage_of_ones_own_is_given_as_it_is(workshop):
    made = small(workshop, "finetune", Scale(factor=2))
    assert made.steps[1].stage == Scale(factor=2)
    assert f"{__name__}:Scale" in made.text

    class Local(front.Stage):
        """One that nobody can find again."""

        name = "local"

    with pytest.raises(front.RecipeError, match="define it at the top level of its module"):
        small(workshop, Local())


def test_a_step_may_be_the_name_of_a_stage() -> None:
    assert writing.step("export", id="second", input="a") == {
        "export": None,
        "as": "second",
        "from": "a",
    }
