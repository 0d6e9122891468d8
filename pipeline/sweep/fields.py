"""Fields of a recipe by their path, such as ``distill.layers``, and the recipe with other values.

The first word of a path is a step's id or a key of the recipe. A step's id alone stands for all its
parameters, and the value ``off`` leaves the step out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from pipeline.recipe import recipe as recipes
from pipeline.recipe import yaml_source
from pipeline.recipe.recipe import BESIDE, LoadedRecipe, Recipe
from pipeline.terms.errors import RecipeError
from pipeline.terms.naming import hint

OFF: Final = "off"
FREE: Final = (
    *("model", "seed", "targets.0.isa"),
    *("data.max_length", "data.long_texts", "data.unlabelled", "data.train"),
)
"""What may vary besides the parameters of steps."""
FREE_WITH_LABELS: Final = ("model", "data.max_length", "data.long_texts")
FIXED: Final = (
    "branches that differ in it cannot be compared: what may vary is any step's parameter, "
    + ", ".join(FREE)
)


def check(loaded: LoadedRecipe, path: str) -> None:
    """Raise RecipeError if there is no such field, or if it must be the same in all branches."""
    steps = [step.id for step in loaded.steps]
    first = split(path, steps)[0]
    if first in steps:
        if first in Recipe.model_fields:
            raise RecipeError(f"{first!r} is a step and a key of the recipe; rename it with 'as'")
        return
    if first not in Recipe.model_fields:
        raise RecipeError(f"no step and no key of the recipe{hint(first, steps)}")
    if path not in FREE:
        raise RecipeError(FIXED)
    data = loaded.recipe.data
    if data.label is None and path in FREE_WITH_LABELS:
        raise RecipeError(
            "without labels, the model's own answers are the truth, so branches that differ in "
            "this would be compared with different truths"
        )
    if path == "data.train" and not data.dev_file:
        raise RecipeError(
            "the development rows are cut from train, so branches would be compared on different "
            "rows; name a file of them in data.dev"
        )


def with_values(
    loaded: LoadedRecipe, values: Mapping[str, Any], changes: Mapping[str, Any], name: str = ""
) -> LoadedRecipe:
    """Return a recipe with other values of some fields.

    A field's value counts within all parameters of its step, in whichever order they are given.
    The result has no file, and its text is written anew.

    Args:
        loaded: The recipe.
        values: What its file has.
        changes: Path -> value.
        name: Another name for the recipe.

    Raises:
        RecipeError: The values do not fit.
    """
    document = _copy(values)
    if any(path.startswith("targets.") for path in changes):
        document.setdefault("targets", [{}])
    if name:
        document["name"] = name
    entries: dict[str, dict[str, Any]] = {}
    for step in loaded.steps:
        entries[step.id] = _entry(document["stages"][step.position], step.id)
    omitted = set()
    for path in sorted(changes, key=len):  # a whole step before its fields
        value = _copy(changes[path])
        first, *rest = split(path, entries)
        if first not in entries:
            _set(document, path.split("."), value, path)
        elif value == OFF and not rest:
            omitted.add(first)
        else:
            stage = _stage(entries[first])
            _set(entries[first], [stage, *rest], value, path)
    document["stages"] = [_shorten(entries[step]) for step in entries if step not in omitted]
    text = yaml_source.dump(document)
    parsed = yaml_source.parse(text.encode(), loaded.where.source).values
    return recipes.check(parsed, text, loaded.base, loaded.where, None)


def _copy(value: Any) -> Any:
    """Return a copy of plain values; what an alias named twice is there twice."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(item) for item in value]
    return value


def split(path: str, steps: Collection[str]) -> list[str]:
    """Return a path's first part, a step's id if it begins with one, and its other parts."""
    candidates = [step for step in steps if f"{path}.".startswith(f"{step}.")]
    first = path.partition(".")[0]
    if candidates:
        first = max(candidates, key=len)
    rest = path[len(first) + 1 :]
    return [first, *rest.split(".")] if rest else [first]


def _entry(entry: Any, step: str) -> dict[str, Any]:
    """Return an entry of ``stages`` as a mapping that has the step's id.

    Without it, the id would depend on the steps before, which may be left out.
    """
    mapping = {entry: None} if isinstance(entry, str) else entry
    return {**mapping, "as": step}


def _stage(entry: Mapping[str, Any]) -> str:
    """Return the key of an entry that names its stage."""
    return next(key for key in entry if key not in BESIDE)


def _shorten(entry: dict[str, Any]) -> dict[str, Any] | str:
    """Return an entry without an id that it has anyway."""
    stage = _stage(entry)
    if entry["as"] == stage:
        del entry["as"]
    return stage if entry == {stage: None} else entry


def _set(container: Any, keys: list[str], value: Any, path: str) -> None:
    """Set a value in nested plain values; mappings that are missing are made."""
    key: Any = keys[0]
    if isinstance(container, list):
        if not key.isdigit() or int(key) >= len(container):
            raise RecipeError(f"{path}: {key!r} is no place in a list of {len(container)}")
        key = int(key)
    if len(keys) == 1:
        container[key] = value
        return
    if isinstance(container, dict) and container.get(key) is None:
        container[key] = {}
    if not isinstance(container[key], dict | list):
        raise RecipeError(f"{path}: {key!r} has no fields")
    _set(container[key], keys[1:], value, path)
