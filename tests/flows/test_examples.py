"""Copies of the examples run in other folders; editors find the schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import examples
from pipeline.recipe import recipe as recipes
from pipeline.store.home import Home
from pipeline.terms.errors import RecipeError
from tests.project import Project, Said


@pytest.mark.parametrize("name", [example.name for example in examples.examples()])
def test_a_copied_example_stands_alone(
    name: str, project: Project, rarefy: Callable[..., Said]
) -> None:
    copy = Path(rarefy("recipe", "cp", name, project.folder / "mine").out.strip())
    assert copy == project.folder / "mine" / f"{name}.yaml"
    loaded = recipes.load(copy)
    for reference in loaded.recipe.data.references.values():
        assert (copy.parent / reference).is_file()
    line = copy.read_text().splitlines()[0]
    assert (copy.parent / line.partition("$schema=")[2]).resolve().is_file()
    copy.write_text("changed")
    again = rarefy("recipe", "cp", name, copy.parent)
    assert (again.code, copy.read_text()) == (2, "changed")
    assert "--force replaces it" in again.err


def test_a_place_where_nothing_can_be_is_refused(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    (project.folder / "file").touch()
    (project.folder / "folder.yaml").mkdir()
    for place in ("file/mine.yaml", "folder.yaml"):
        said = rarefy("recipe", "cp", "demo", project.folder / place)
        assert (said.code, said.out) == (2, "")
    assert "already exists" in said.err
    forced = rarefy("recipe", "cp", "demo", project.folder / "folder.yaml", "--force")
    assert (forced.code, "cannot be written" in forced.err) == (2, True)


def test_the_line_leads_from_the_recipe_to_a_schema(tmp_path: Path) -> None:
    recipe = tmp_path / "recipes" / "deep" / "mine.yaml"
    line = examples.schema_line(recipe, Home(tmp_path / "state"))
    assert line.startswith("# yaml-language-server: $schema=")
    assert line.endswith("\n")
    schema = recipe.parent / line.strip().partition("=")[2]
    assert "stages" in json.loads(schema.resolve().read_text())["properties"]


def test_a_home_that_can_be_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecipeError, match=r"recipe\.schema\.json: cannot be written"):
        examples.schema_line(tmp_path / "mine.yaml", Home(tmp_path / "file"))
