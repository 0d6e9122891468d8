"""Fields of a recipe by their path, such as ``distill.layers``, and the recipe with other values.

The first word of a path is a step's id or a key of the recipe. A step's id alone stands for all its
parameters, and the value ``off`` leaves the step out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from typing import Any, Final

from pipeline.recipe import recipe as recipes
from pipeline.recipe import yaml_source
from pipeline.recipe.recipe import BESIDE, LoadedRecipe, Recipe
from pipeline.terms.errors import RecipeError
from pipeline.terms.naming import hint

OFF: Final = "off"
FREE: Final = ("model", "seed")
OF_DATA: Final = ("max_length", "long_texts", "unlabelled", "train")
FIXED: Final = (
    "branches that differ in it cannot be compared: what may vary is any step's parameter, model, "
    "seed, targets.0.isa, and of data " + ", ".join(OF_DATA)
)


def check(loaded: LoadedRecipe, path: str) -> None:
    """Raise RecipeError if there is no such field, or if it must be the same in all branches."""
    steps = [step.id for step in loaded.steps]
    first, *others = split(path, steps)
    if first in steps and first in Recipe.model_fields:
        raise RecipeError(f"{first!r} is a step and a key of the recipe; rename the step with 'as'")
    if first in steps:
        return
    if first not in Recipe.model_fields:
        raise RecipeError(f"no step and no key of the recipe{hint(first, steps)}")
    free = first in FREE and not others
    free |= first == "targets" and others == ["0", "isa"]
    free |= first == "data" and len(others) == 1 and others[0] in OF_DATA
    if not free:
        raise RecipeError(FIXED)
    if loaded.recipe.data.label is None and path in ("model", "data.max_length", "data.long_texts"):
        raise RecipeError(
            "without labels, the model's own answers are the truth, so branches that differ in "
            "this would be compared with different truths"
        )
    if path == "data.train" and not loaded.recipe.data.dev_file:
        raise RecipeError(
            "the development rows are cut from train, so branches would be compared on different "
            "rows; name a file of them in data.dev"
        )


def with_values(
    loaded: LoadedRecipe, values: Mapping[str, Any], given: Mapping[str, Any], name: str = ""
) -> LoadedRecipe:
    """Return a recipe with other values of some fields.

    ``values``: the recipe's, as its file has them; ``given``: path -> value; ``name``: another name
    for the recipe. A field's value counts within all parameters of its step, in whichever order
    they are given. The result has no file, and its text is written anew. Raises RecipeError if the
    values do not fit.
    """
    changed = _apart({"targets": [{}], **values})
    stages = [_entry(entry) for entry in changed["stages"]]
    positions = {step.id: step.position for step in loaded.steps}
    for step in loaded.steps:
        stages[step.position].setdefault("as", step.id)  # also once a step before it is left out
    off = set()
    for path in sorted(given, key=len):  # a whole step before its fields
        value = given[path]
        first, *others = split(path, positions)
        if first not in positions:
            _set(changed, path.split("."), value, path)
        elif not others and value == OFF:
            off.add(positions[first])
        else:
            entry = stages[positions[first]]
            _set(entry, [_stage(entry), *others], deepcopy(value), path)
    changed["stages"] = [_short(e) for at, e in enumerate(stages) if at not in off]
    if changed["targets"] == [{}]:
        del changed["targets"]  # the default, as before
    changed |= {"name": name} if name else {}
    text = yaml_source.dump(changed)
    parsed = yaml_source.parse(text.encode(), loaded.where.source).values
    return recipes.check(parsed, text, loaded.base, loaded.where, None)


def _apart(value: Any) -> Any:
    """Return a copy of plain values in which what an alias named twice is there twice."""
    if isinstance(value, dict):
        return {key: _apart(each) for key, each in value.items()}
    return [_apart(each) for each in value] if isinstance(value, list) else value


def split(path: str, steps: Collection[str]) -> list[str]:
    """Return a path's first part, a step's id if it begins with one, and its other parts."""
    named = [step for step in steps if path == step or path.startswith(f"{step}.")]
    first = max(named, key=len, default=path.partition(".")[0])
    rest = path[len(first) + 1 :]
    return [first, *(rest.split(".") if rest else ())]


def _entry(entry: Any) -> dict[str, Any]:
    return {entry: None} if isinstance(entry, str) else dict(entry)


def _stage(entry: Mapping[str, Any]) -> str:
    """Return the key of an entry that names its stage."""
    return next(key for key in entry if key not in BESIDE)


def _short(entry: dict[str, Any]) -> dict[str, Any] | str:
    """Return an entry without an id that it has anyway."""
    stage = _stage(entry)
    if entry.get("as") == stage:
        entry.pop("as")
    return stage if entry == {stage: None} else entry


def _set(into: Any, keys: list[str], value: Any, path: str) -> None:
    """Set a value in nested plain values; mappings that are missing are made."""
    for at, key in enumerate(keys):
        last = at == len(keys) - 1
        if isinstance(into, list):
            if not key.isdigit() or int(key) >= len(into):
                raise RecipeError(f"{path}: {key!r} is no place in a list of {len(into)}")
            if last:
                into[int(key)] = value
            else:
                into = into[int(key)]
            continue
        if last:
            into[key] = value
        else:
            into[key] = {} if into.get(key) is None else into[key]
            into = into[key]
            if not isinstance(into, dict | list):
                raise RecipeError(f"{path}: {key!r} has no fields")
