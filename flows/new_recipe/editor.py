"""The first line of a recipe, which tells an editor where the schema is for completing keys."""

from __future__ import annotations

import json
import os
from pathlib import Path

from rarefy.pipeline.store import disk
from rarefy.pipeline.store.home import Home

COMMENT = "# yaml-language-server:"


def schema_line(recipe: Path, home: Home) -> str:
    """Write the schema of the installed stages into ``home``; return the line that names it."""
    from rarefy.pipeline.recipe.schema import json_schema

    path = home.path / "recipe.schema.json"
    with disk.placing(path):
        path.write_text(json.dumps(json_schema(), indent=1), encoding="utf-8")
    relative = Path(os.path.relpath(path.resolve(), recipe.resolve().parent)).as_posix()
    return f"{COMMENT} $schema={relative}\n"
