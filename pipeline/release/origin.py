"""Which recipe made a run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from pipeline.recipe import recipe as recipes
from pipeline.recipe.recipe import LoadedRecipe
from pipeline.store.home import Home
from pipeline.terms.errors import IntegrityError, RecipeError


def recipe_of(reference: str, given: LoadedRecipe | Path | None, home: Home) -> LoadedRecipe:
    """Return the recipe that was given (or its file), else the one that made a run.

    Raises RecipeError if none was given and ``reference`` is not a run, or the recipe of that run
    was made in Python.
    """
    if isinstance(given, LoadedRecipe):
        return given
    if given is not None:
        return recipes.load(given)
    for folder in (home.runs / reference, Path(reference), Path(reference).parent):
        record = folder / "run.json"  # a bundle has one too, but of the stage that made it
        if record.is_file() and (command := _command(record)):
            words = shlex.split(command)
            if words[0] != "rarefy":
                raise RecipeError(f"{reference}: its recipe was made in Python; give the recipe")
            return recipes.load(Path(words[2] if words[1] == "ci" else words[-1]))
    raise RecipeError(f"{reference}: is not a run, so say the recipe with --recipe")


def _command(record: Path) -> str | None:
    try:
        found: str | None = json.loads(record.read_text()).get("command")
    except (ValueError, AttributeError):
        raise IntegrityError(f"{record}: damaged; say the recipe with --recipe") from None
    return found
