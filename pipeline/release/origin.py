"""Find the recipe that made a run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.recipe.recipe import LoadedRecipe
from rarefy.pipeline.run import names
from rarefy.pipeline.run.plan import baselines
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import IntegrityError, RecipeError


def recipe_of(reference: str, given: LoadedRecipe | Path | None, home: Home) -> LoadedRecipe:
    """Return the given recipe (or load it from the given file), else the one that made a run.

    A run of `rarefy ci --baseline` is compared with that tag again.

    Raises RecipeError if none is given and ``reference`` is not a run, if the recipe of that run
    was built in Python, or if its path leads to another recipe here. Raises IntegrityError if
    run.json is damaged.
    """
    if isinstance(given, LoadedRecipe):
        return given
    if given is not None:
        return recipes.load(given)
    for folder in (*home.folders(reference), Path(reference).parent):
        record = folder / names.RECORD
        if not record.is_file() or (made := _made_by(record)) is None:
            continue
        name, command = made
        words = shlex.split(command)
        if words[0] != "rarefy":
            raise RecipeError(
                f"{reference}: its recipe was built in Python; pass the recipe, or a file "
                "of it with --recipe"
            )
        gate = words[1] == "ci"
        path = Path(words[2 if gate else -1])
        loaded = recipes.load(path)
        # The path is relative to where the run was started, which may be another folder.
        if loaded.recipe.name != name:
            raise RecipeError(
                f"{reference}: {path} here is the recipe {loaded.recipe.name!r}, not {name!r}, "
                "which made this run; name the recipe with --recipe"
            )
        if gate and "--baseline" in words:
            return baselines.with_baseline(loaded, words[words.index("--baseline") + 1])
        return loaded
    raise RecipeError(f"{reference}: this is not a run; name the recipe with --recipe")


def _made_by(record: Path) -> tuple[str, str] | None:
    """Return the name of a run's recipe and its command; None if the file is a bundle's."""
    try:
        values = json.loads(record.read_bytes())
        return (values["name"], values["command"]) if values.get("command") else None
    except (ValueError, AttributeError, KeyError):
        raise IntegrityError(
            f"{record}: the file is damaged; name the recipe with --recipe"
        ) from None
