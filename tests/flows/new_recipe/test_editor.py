"""The comment by which an editor finds the schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rarefy.flows.new_recipe import editor
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import RecipeError


def test_the_line_leads_from_the_recipe_to_a_schema(tmp_path: Path) -> None:
    recipe = tmp_path / "recipes" / "deep" / "mine.yaml"
    line = editor.schema_line(recipe, Home(tmp_path / "state"))
    assert line.startswith("# yaml-language-server: $schema=")
    assert line.endswith("\n")
    schema = recipe.parent / line.strip().partition("=")[2]
    assert "stages" in json.loads(schema.resolve().read_text())["properties"]


def test_a_home_that_can_be_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecipeError, match=r"recipe\.schema\.json: cannot be written"):
        editor.schema_line(tmp_path / "mine.yaml", Home(tmp_path / "file"))
