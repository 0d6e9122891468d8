"""Find the recipe that made a run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from pipeline.recipe import recipe as recipes
from pipeline.recipe.recipe import LoadedRecipe
from pipeline.run import baselines, names
from pipeline.store.home import Home
from pipeline.terms.errors import IntegrityError, RecipeError


def recipe_of(reference: str, given: LoadedRecipe | Path | None, home: Home) -> LoadedRecipe:
    """Return the given recipe (or load it from the given file), else the one that made a run.

    A run of `rarefy ci --baseline` is compared with that tag again.

    Raises RecipeError if none is given and ``reference`` is not a run, or if the recipe of that
    run was built in Python. Raises IntegrityError if run.json is damaged.
    """
    if isinstance(given, LoadedRecipe):
        return given
    if given is not None:
        return recipes.load(given)
    for folder in (home.runs / reference, Path(reference), Path(reference).parent):
        record = folder / names.RECORD  # a bundle's own run.json has no command
        if record.is_file() and (command := _command(record)):
            words = shlex.split(command)
            if words[0] != "rarefy":
                raise RecipeError(
                    f"{reference}: its recipe was built in Python; pass the recipe, or a file "
                    "of it with --recipe"
                )
            if words[1] != "ci":
                return recipes.load(Path(words[-1]))
            loaded = recipes.load(Path(words[2]))
            if "--baseline" not in words:
                return loaded
            return baselines.with_baseline(loaded, words[words.index("--baseline") + 1])
    raise RecipeError(f"{reference}: this is not a run; name the recipe with --recipe")


def _command(record: Path) -> str | None:
    try:
        found: str | None = json.loads(record.read_text()).get("command")
    except (ValueError, AttributeError):
        raise IntegrityError(
            f"{record}: the file is damaged; name the recipe with --recipe"
        ) from None
    return found
