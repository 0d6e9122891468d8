"""Fields of a recipe by their path, as ``distill.keep_layers``, and the recipe with other values.

The first word of a path is a step's id or a key of the recipe. A step's id alone stands for all its
parameters, and the value ``off`` leaves the step out.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Final

from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.recipe import yaml_file
from rarefy.pipeline.recipe.recipe import BESIDE, MODEL, LoadedRecipe, Recipe
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.wording import hint

OFF: Final = "off"
ISA: Final = "targets.0.isa"
FREE: Final = (
    *("model", "seed", ISA),
    *("data.max_length", "data.long_texts", "data.unlabelled", "data.train"),
)
"""What may vary besides the parameters of steps."""
FREE_WITH_LABELS: Final = ("model", "data.max_length", "data.long_texts")
FIXED: Final = (
    "branches that differ in it cannot be compared: what may vary is any step's parameter, "
    + ", ".join(FREE)
)


def problem(loaded: LoadedRecipe, path: str) -> str | None:
    """Return why a field must be the same in all branches, or that there is none; else None."""
    ids = loaded.ids
    first = split(path, ids)[0]
    data = loaded.recipe.data
    if first in ids[1:]:
        if first in steps_of_branch(loaded):
            return None
        return f"branches do not run {first!r}: winners do"
    if first not in Recipe.model_fields:
        return f"no step and no key of the recipe{hint(first, ids)}"
    if path not in FREE:
        return FIXED
    if data.label is None and path in FREE_WITH_LABELS:
        return (
            "without labels, the model's own predictions serve as labels, so branches that differ "
            "in this would be compared with different labels"
        )
    if path == "data.train" and data.eval_share:
        return (
            "the eval rows are cut from train, so branches would be compared on different rows; "
            "name a file of them in data.eval"
        )
    if path == "data.train" and not data.dev_file:
        return (
            "the development rows are cut from train, so branches would be compared on different "
            "rows; name a file of them in data.dev"
        )
    return None


def with_values(
    loaded: LoadedRecipe, values: Mapping[str, Any], changes: Mapping[str, Any]
) -> LoadedRecipe:
    """Return a recipe with other values of some fields.

    A field's value counts within all parameters of its step, in whichever order they are given.
    The result has no file, and its text is written anew.

    Args:
        loaded: The recipe.
        values: What its file has.
        changes: Path -> value; ``name`` is the recipe's.

    Raises:
        RecipeError: The values do not fit.
    """
    document = _copy(values)
    entries = {step.id: _entry(document["stages"][step.position], step.id) for step in loaded.steps}
    omitted = set()
    for path in sorted(changes, key=len):  # a whole step before its fields
        value = _copy(changes[path])
        first, *rest = split(path, entries)
        if path == ISA:
            document.setdefault("targets", [{}])[0]["isa"] = value
        elif first not in entries:
            _set(document, path.split("."), value)
        elif value == OFF and not rest:
            omitted.add(first)
        else:
            stage = _stage(entries[first])
            _set(entries[first], [stage, *rest], value)
    document["stages"] = [entries[step] for step in entries if step not in omitted]
    text = yaml_file.dump(document)
    return recipes.check(document, text, loaded.base, loaded.where, None)


def _copy(value: Any) -> Any:
    """Return a copy of plain values; what an alias named twice is there twice."""
    return json.loads(json.dumps(value))


def steps_of_branch(loaded: LoadedRecipe) -> list[str]:
    """Return the ids of the steps of a branch, in order: no reports, unless a later step reads one.

    Branches are measured later, all of them beside each other.
    """
    inputs = set[str]()
    ids = []
    for step in reversed(loaded.steps):
        if step.id in inputs or step.stage.produces is not Kind.REPORT:
            ids.append(step.id)
            inputs.update([step.input, *step.stage.references().values()])
    return [MODEL, *reversed(ids)]


def split(path: str, steps: Collection[str]) -> list[str]:
    """Return a path's first part, a step's id if it begins with one, and its other parts."""
    ids = [step for step in steps if f"{path}.".startswith(f"{step}.")]
    first = max(ids, key=len, default=path.partition(".")[0])
    rest = path[len(first) :]
    return [first, *rest.split(".")[1:]]


def _entry(entry: Any, step: str) -> dict[str, Any]:
    """Return an entry of ``stages`` as a mapping that has the step's id.

    Without it, the id would depend on the steps before, which may be left out.
    """
    mapping = {entry: {}} if isinstance(entry, str) else dict(entry)
    if step != _stage(mapping):
        mapping["as"] = step
    return mapping


def _stage(entry: Mapping[str, Any]) -> str:
    """Return the key of an entry that names its stage."""
    return next(key for key in entry if key not in BESIDE)


def _set(container: dict[str, Any], keys: list[str], value: Any) -> None:
    """Set a value in nested mappings; those that are missing are made."""
    for key in keys[:-1]:
        if container.get(key) is None:
            container[key] = {}
        container = container[key]
        if not isinstance(container, dict):
            raise RecipeError(f"{'.'.join(keys)}: {key!r} has no fields")
    container[keys[-1]] = value
