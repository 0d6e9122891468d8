"""Find the recipe that made a run."""

from __future__ import annotations

import shlex
from pathlib import Path

from pydantic import BaseModel

from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.recipe.recipe import LoadedRecipe
from rarefy.pipeline.run import names
from rarefy.pipeline.run.plan import baselines
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.errors import IntegrityError, RecipeError

REMEDY = "name the recipe with --recipe"


class _Made(BaseModel):
    """What a run's record says of its recipe; a bundle's record has no command."""

    name: str | None = None
    command: str | None = None


def recipe_of(reference: str, given: LoadedRecipe | Path | None, home: Home) -> LoadedRecipe:
    """Return the given recipe (or load it from the given file), else the one that made a run.

    A run of `rarefy ci --baseline` is compared with that tag again.

    Raises RecipeError if none is given and ``reference`` is not a run, if the recipe of that run
    was built in Python, or if its path leads to no recipe or to another one here. Raises
    IntegrityError if run.json is damaged.
    """
    if isinstance(given, LoadedRecipe):
        return given
    if given is not None:
        return recipes.load(given)
    for folder in (*home.folders(reference), Path(reference).parent):
        record = folder / names.RECORD
        if not record.is_file() or (made := _made_by(record)) is None:
            continue
        name, words = made
        if words[0] != "rarefy":
            raise RecipeError(
                f"{reference}: its recipe was built in Python; pass the recipe, or a file "
                "of it with --recipe"
            )
        gate = words[1] == "ci"
        path = Path(words[2 if gate else -1])
        # A relative path begins where the run was started, which may be another folder.
        if not path.exists():
            raise RecipeError(
                f"{reference}: {path}, the recipe of this run, does not exist here; go to "
                f"where the run was started, or {REMEDY}"
            )
        loaded = recipes.load(path)
        if loaded.recipe.name != name:
            raise RecipeError(
                f"{reference}: {path} here is the recipe {loaded.recipe.name!r}, not {name!r}, "
                "which made this run; name the recipe with --recipe"
            )
        if gate and "--baseline" in words:
            return baselines.with_baseline(loaded, words[words.index("--baseline") + 1])
        return loaded
    raise RecipeError(f"{reference}: this is not a run; name the recipe with --recipe")


def _made_by(record: Path) -> tuple[str, list[str]] | None:
    """Return the name of a run's recipe and its command's words; None if the file is a bundle's."""
    run = json_text.ours(record, _Made, REMEDY)
    if not run.command:
        return None
    try:
        words = shlex.split(run.command)
    except ValueError:
        words = []
    names_recipe = len(words) >= 3 or words[:1] not in ([], ["rarefy"])  # or it is of Python
    if not run.name or not names_recipe:
        raise IntegrityError(f"{record}: the file is damaged; {REMEDY}")
    return run.name, words
