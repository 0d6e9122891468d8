"""The comment by which an editor finds the schema."""

from __future__ import annotations

import json
from pathlib import Path

from flows import editor
from pipeline.store.home import Home


def test_the_line_leads_from_the_recipe_to_a_schema(tmp_path: Path) -> None:
    recipe = tmp_path / "recipes" / "deep" / "mine.yaml"
    line = editor.schema_line(recipe, Home(tmp_path / "state"))
    assert line.startswith("# yaml-language-server: $schema=")
    assert line.endswith("\n")
    schema = recipe.parent / line.strip().partition("=")[2]
    assert "stages" in json.loads(schema.resolve().read_text())["properties"]
