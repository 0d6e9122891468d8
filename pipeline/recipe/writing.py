"""Recipes as YAML, and recipes built in Python."""

from __future__ import annotations

import inspect
import os
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.recipe import yaml_file
from rarefy.pipeline.recipe.recipe import LoadedRecipe, Step
from rarefy.pipeline.recipe.yaml_file import Places
from rarefy.pipeline.sources import plugin_code
from rarefy.pipeline.stage import Stage, discovery
from rarefy.pipeline.stage.discovery import installed
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.recipe_parts import Data, Part, Target

Entry = Stage | str | Mapping[str, Any]
"""A stage of a recipe: a Stage object, its name, or its entry as in YAML."""


def build(
    name: str,
    *,
    model: str,
    data: Data | Mapping[str, Any],
    stages: Iterable[Entry],
    targets: Iterable[Target | Mapping[str, Any]] = (),
    budgets: Iterable[Budget | Mapping[str, Any]] = (),
    base: Path | str = ".",
    **others: Any,
) -> LoadedRecipe:
    """Build a recipe from Python objects, with the same checks as for the equivalent YAML.

    Relative paths start from ``base``; ``others`` are the recipe's remaining keys (task, seed,
    allow_pickle). Raises RecipeError with the key that is wrong.
    """
    where = Places(f"recipe {name!r}", {})
    values: dict[str, Any] = {"name": name, "model": str(model), **_plain(others)}
    values["data"] = _plain(data)
    values["stages"] = list(map(_entry, _listed(stages)))
    if targets:
        values["targets"] = list(map(_plain, _listed(targets)))
    if budgets:
        values["budgets"] = list(map(_plain, _listed(budgets)))
    try:
        text = yaml_file.dump(values)
    except yaml.representer.RepresenterError as error:
        raise RecipeError(f"{where.source}: {error.args[-1]!r} has no form in YAML") from None
    folder = Path(base).expanduser().resolve()
    return recipes.check(values, text, folder, where, None)


def step(
    stage: Stage | str,
    *,
    id: str | None = None,  # noqa: A002
    input: str | None = None,  # noqa: A002
    seed: int | None = None,
) -> dict[str, Any]:
    """Give a stage of a recipe an id, another input or a seed of its own.

    Args:
        stage: the stage, or the name of one.
        id: the id by which other stages and budgets name it (``as``).
        input: the id of the stage whose output it reads (``from``); default: the one before.
        seed: the seed of this stage alone.

    Returns:
        The stage's entry for ``Recipe(stages=…)``.
    """
    entry: dict[str, Any] = {stage: None} if isinstance(stage, str) else _entry(stage)
    options = {"as": id, "from": input, "seed": seed}
    for key, value in options.items():
        if value is not None:
            entry[key] = value
    return entry


def _listed(value: Any) -> Iterable[Any]:
    """Return a list of values; one thing alone is a list of it."""
    is_one = isinstance(value, str | Mapping | Part | Stage)
    if is_one or not isinstance(value, Iterable):
        return [value]
    return value


def _entry(stage: Entry) -> Any:
    if not isinstance(stage, Stage):
        return _plain(stage)
    # What was given stays, though it is the default, as it does in a file.
    parameters: dict[str, Any] = stage.model_dump(mode="json", exclude_unset=True)
    return {stage_name(type(stage)): parameters}


def _plain(value: Any) -> Any:
    """Return what YAML can hold of a recipe's part: paths as text, NumPy's numbers as Python's."""
    if isinstance(value, Part):
        return _with_signs(value.model_dump(mode="json", exclude_defaults=True))
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def _with_signs(values: dict[str, Any]) -> dict[str, Any]:
    """Write a regression of 100% or more with the % sign; a bare number counts as a typo."""
    regression = values.get("max_regression", 0)
    if regression < 1:
        return values
    return values | {"max_regression": f"{100 * regression:g}%"}


def as_values(loaded: LoadedRecipe) -> dict[str, Any]:
    """Return the recipe as plain values with defaults. Reading them gives the same recipe."""
    values = loaded.recipe.model_dump(mode="json", exclude_none=True)
    values["data"].setdefault("label", None)  # which is not its default
    values["stages"] = [_stage(step) for step in loaded.steps]
    if "budgets" in values:
        values["budgets"] = [_with_signs(budget) for budget in values["budgets"]]
    return values


def _stage(step: Step) -> dict[str, Any]:
    name = stage_name(type(step.stage))
    return {name: _parameters(step.stage), **_beside(step)}


def _beside(step: Step) -> dict[str, Any]:
    """Return what an entry says beside its stage."""
    keys: dict[str, Any] = {"as": step.id, "from": step.input}
    if step.seed is not None:
        keys["seed"] = step.seed
    return keys


def _parameters(stage: Stage) -> dict[str, Any]:
    """Return a stage's parameters with defaults, without those that it refuses beside the others.

    What another ``mode`` would need is refused even with the value that it has by default.
    """
    values = stage.model_dump(mode="json")
    explicit = {name: values[name] for name in values if name in stage.model_fields_set}

    def takes(name: str) -> bool:
        try:
            type(stage).model_validate(explicit | {name: values[name]})
        except ValidationError:
            return False
        return True

    return {name: values[name] for name in values if name in explicit or takes(name)}


def stage_name(kind: type[Stage]) -> str:
    """Return the name of a stage in a recipe: its registered name, or module:Class.

    Raises RecipeError if the class cannot be imported by name, e.g. if it is local to a function.
    """
    if kind.name in installed() and discovery.find(kind.name) is kind:
        return kind.name
    if "." in kind.__qualname__:
        raise RecipeError(f"stage {kind.__qualname__}: define it at the top level of its module")
    return f"{plugin_code.name_of(kind.__module__)}:{kind.__qualname__}"


def as_yaml(loaded: LoadedRecipe) -> str:
    """Return the recipe as YAML; comments before stages and parameters say what they do."""
    values = as_values(loaded)
    parts = []
    for key, value in values.items():
        if key != "stages":
            parts.append(yaml_file.dump({key: value}))
            continue
        parts.append("\nstages:\n")
        for step, entry in zip(loaded.steps, value, strict=True):
            lines = [*_explanation(step), *_explained(step, entry)]
            parts += [f"  {line}\n" for line in lines]
            parts.append("\n")
    return "".join(parts)


def _explanation(step: Step) -> Iterator[str]:
    """Yield the docstring of a step's stage as comments."""
    docstring = inspect.getdoc(step.stage) or ""
    for line in docstring.splitlines():
        yield f"# {line}".rstrip()


def _explained(step: Step, entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a stage's entry, each parameter below its description as a comment."""
    name, parameters = next(iter(entry.items()))
    fields = type(step.stage).model_fields
    yield f"- {name}:" if parameters else f"- {name}: {{}}"
    comment = textwrap.TextWrapper(92, initial_indent="    # ", subsequent_indent="    # ")
    for key, value in parameters.items():
        description = fields[key].description or ""
        yield from comment.wrap(description)
        for line in _dumped({key: value}):
            yield f"    {line}"
    for line in _dumped(_beside(step)):
        yield f"  {line}"


def _dumped(value: Any) -> list[str]:
    text = yaml_file.dump(value)
    return text.removesuffix("\n").split("\n")
