"""Which recipe made a run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from pipeline.store.home import Home
from pipeline.terms.errors import IntegrityError, RecipeError


def recipe_of(reference: str, recipe: Path | None, home: Home) -> Path:
    """Return the recipe that was named, else the one that made the run ``reference``.

    Raises RecipeError where neither is there.
    """
    if recipe is not None:
        return recipe
    for folder in (home.runs / reference, Path(reference), Path(reference).parent):
        record = folder / "run.json"  # a bundle has one too, but of the stage that made it
        if record.is_file() and (command := _command(record)):
            words = shlex.split(command)
            return Path(words[2] if words[1] == "ci" else words[-1])
    raise RecipeError(f"{reference}: is not a run, so say the recipe with --recipe")


def _command(record: Path) -> str | None:
    try:
        found: str | None = json.loads(record.read_text()).get("command")
    except (ValueError, AttributeError):
        raise IntegrityError(f"{record}: damaged; say the recipe with --recipe") from None
    return found
