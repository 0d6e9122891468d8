"""Recipes before a run: show, check and copy them, and print the schema for editors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project import Project, Said

SCHEMA = Path(__file__).parents[3] / "schema" / "recipe.schema.json"


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


def test_check_tells_all_errors_that_are_independent(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    recipe = project.recipe("finetune: {epoch: 1, batch_size: 0}", "quantise", name="wrong")
    recipe.write_text(recipe.read_text().replace("eval:", "max_length: few, eval:"))
    said = rarefy("recipe", "check", recipe)
    assert said.code == 2
    lines = said.err.splitlines()
    starts = [
        f"{recipe}:4: data.max_length: ",
        f"{recipe}:6: stages[0].finetune.epoch: unknown key, did you mean 'epochs'?",
        f"{recipe}:6: stages[0].finetune.batch_size: ",
        f"{recipe}:7: stages[1].quantise: ",
    ]
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)
    [answer] = json.loads(rarefy("recipe", "check", recipe, "--json").out)
    assert answer["errors"] == lines
    assert answer["error"] == lines[0]


def test_check_tells_all_renamed_keys_and_names_no_member_of_a_union(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    recipe = project.recipe(
        "prune: {heads: 50 %, neurons: 85 %}", "validate: {linear: maybe}", name="old"
    )
    lines = rarefy("recipe", "check", recipe).err.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "stages[0].prune.heads",
        "stages[0].prune.neurons",
        "stages[1].validate.linear",
    ]
    assert "write 'remove_heads', the share to remove" in lines[0]


def test_check_tells_errors_of_budgets_and_of_data_together(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    (project.folder / "eval.jsonl").unlink()
    budgets = "budgets: {metric: acuracy, max_drop: 1 point, against: head}\n"
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=budgets)
    said = rarefy("recipe", "check", recipe)
    assert said.code == 2
    metric, data = said.err.splitlines()
    assert "did you mean 'accuracy'?" in metric
    assert "data.eval: eval.jsonl: no such file" in data


def test_check_makes_no_home(project: Project, rarefy: Callable[..., Said]) -> None:
    """The folder may be a checkout that cannot be written."""
    recipe = project.recipe("quickstages:Head")
    assert rarefy("recipe", "check", recipe).out == f"ok {recipe}\n"
    assert not project.home.exists()


def test_check_sees_a_missing_data_file(project: Project, rarefy: Callable[..., Said]) -> None:
    (project.folder / "eval.jsonl").unlink()
    said = rarefy("recipe", "check", project.recipe("quickstages:Head"))
    assert said.code == 2
    assert "data.eval: eval.jsonl: no such file" in said.err


def test_examples_are_listed_with_what_they_are_about(rarefy: Callable[..., Said]) -> None:
    listed = json.loads(rarefy("recipe", "ls", "--json").out)
    assert "demo" in [example["name"] for example in listed]
    assert all(example["about"].endswith(".") for example in listed), "whole sentences"


def test_the_schema_in_the_repository_is_this_versions(rarefy: Callable[..., Said]) -> None:
    """Regenerate it with: rarefy recipe schema > schema/recipe.schema.json."""
    assert json.loads(rarefy("recipe", "schema").out) == json.loads(SCHEMA.read_text())


@pytest.mark.parametrize("command", [("recipe", "check"), ("plan",)])
def test_no_code_of_a_recipe_is_imported_with_no_code(
    project: Project, rarefy: Callable[..., Said], command: tuple[str, ...]
) -> None:
    """Importing the module would leave a file; without --no-code it does."""
    left = project.folder / "was-here"
    (project.folder / "mine.py").write_text(f"open({str(left)!r}, 'w').close()\n")
    recipe = project.recipe("mine:Stage: {any: thing}", "export")
    said = rarefy(*command, recipe, "--no-code")
    if command == ("plan",):
        assert said.code == 2
        assert "to plan it, mine:Stage must be imported, which --no-code forbids" in said.err
    else:
        assert said.code == 0
        assert said.out.startswith(f"ok {recipe} (only its form: mine:Stage was not imported, so ")
    assert not left.exists()
    assert rarefy(*command, recipe).code == 2, "the module has no class Stage"
    assert left.exists()


def test_what_can_be_checked_without_code_is_checked(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    wrong = project.recipe("mine:Stage", "export: {tarket: cpu}")
    said = rarefy("recipe", "check", wrong, "--no-code")
    assert said.code == 2
    assert f"{wrong}:7: " in said.err
    installed = project.recipe("finetune", "export")
    assert rarefy("recipe", "check", installed, "--no-code").out == f"ok {installed}\n"
    assert rarefy("plan", installed, "--no-code").code == 0
