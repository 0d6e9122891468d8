"""Recipes before a run: show, check and copy them, and print the schema for editors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

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
    """Regenerate it with: rarefy recipe schema > schema/recipe.schema.json."""
    assert json.loads(rarefy("recipe", "schema").out) == json.loads(SCHEMA.read_text())
