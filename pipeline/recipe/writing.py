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

from pipeline.recipe import recipe as recipes
from pipeline.recipe import yaml_source
from pipeline.recipe.places import Places
from pipeline.recipe.recipe import LoadedRecipe, Step
from pipeline.stage import Stage, code, discovery
from pipeline.stage.discovery import installed
from pipeline.terms.budget import Budget
from pipeline.terms.errors import RecipeError
from pipeline.terms.vocabulary import Data, Part, Target

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
    values["stages"] = [_entry(stage) for stage in _listed(stages)]
    values |= {
        key: [_plain(part) for part in _listed(parts)]
        for key, parts in (("targets", targets), ("budgets", budgets))
        if parts
    }
    try:
        text = yaml_source.dump(values)
    except yaml.representer.RepresenterError as error:
        raise RecipeError(f"{where.source}: {error.args[-1]!r} has no form in YAML") from None
    return recipes.check(values, text, Path(base).expanduser().resolve(), where, None)


def step(
    stage: Stage | str,
    *,
    id: str | None = None,  # noqa: A002
    input: str | None = None,  # noqa: A002
    seed: int | None = None,
) -> dict[str, Any]:
    """Return a recipe's entry for a stage with its own id (``as``), input (``from``) or seed."""
    entry: dict[str, Any] = {stage: None} if isinstance(stage, str) else _entry(stage)
    given = {"as": id, "from": input, "seed": seed}
    return entry | {key: value for key, value in given.items() if value is not None}


def _listed(given: Any) -> Iterable[Any]:
    """Return what was given for a list; one thing alone is a list of it."""
    alone = isinstance(given, str | Mapping | Part | Stage) or not isinstance(given, Iterable)
    return [given] if alone else given


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
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else value


def _with_signs(values: dict[str, Any]) -> dict[str, Any]:
    """Write a regression of 100 % or more with the % sign; a bare number counts as a typo."""
    if values.get("max_regression", 0) >= 1:
        return values | {"max_regression": f"{100 * values['max_regression']:g} %"}
    return values


def as_values(loaded: LoadedRecipe) -> dict[str, Any]:
    """Return the recipe as plain values with defaults. Reading them gives the same recipe."""
    values = loaded.recipe.model_dump(mode="json", exclude_none=True)
    values["data"].setdefault("label", None)  # which is not its default
    values["stages"] = [_stage(step) for step in loaded.steps]
    if "budgets" in values:
        values["budgets"] = [_with_signs(budget) for budget in values["budgets"]]
    return values


def _stage(step: Step) -> dict[str, Any]:
    return {
        stage_name(type(step.stage)): _parameters(step.stage),
        **_beside(step),
    }


def _beside(step: Step) -> dict[str, Any]:
    """Return what an entry says beside its stage."""
    seed = {} if step.seed is None else {"seed": step.seed}
    return {"as": step.id, "from": step.input, **seed}


def _parameters(stage: Stage) -> dict[str, Any]:
    """Return a stage's parameters with defaults, without those that it refuses beside the others.

    What another ``mode`` would need is refused even with the value that it has by default.
    """
    values = stage.model_dump(mode="json")
    given = {name: value for name, value in values.items() if name in stage.model_fields_set}

    def takes(name: str) -> bool:
        try:
            type(stage).model_validate(given | {name: values[name]})
        except ValidationError:
            return False
        return True

    return {name: value for name, value in values.items() if name in given or takes(name)}


def stage_name(kind: type[Stage]) -> str:
    """Return the name of a stage in a recipe: its registered name, or module:Class.

    Raises RecipeError if the class cannot be imported by name, e.g. if it is local to a function.
    """
    if kind.name in installed() and discovery.find(kind.name) is kind:
        return kind.name
    if "." in kind.__qualname__:
        raise RecipeError(f"stage {kind.__qualname__}: define it at the top level of its module")
    return f"{code.name_of(kind.__module__)}:{kind.__qualname__}"


def as_yaml(loaded: LoadedRecipe) -> str:
    """Return the recipe as YAML; comments before stages and parameters say what they do."""
    values = as_values(loaded)
    parts = []
    for key, value in values.items():
        if key != "stages":
            parts.append(yaml_source.dump({key: value}))
            continue
        parts.append("\nstages:\n")
        for step, entry in zip(loaded.steps, value, strict=True):
            lines = [f"# {line}".rstrip() for line in _explanation(step)]
            lines += _explained(step, entry)
            parts += [f"  {line}\n" for line in lines]
            parts.append("\n")
    return "".join(parts)


def _explanation(step: Step) -> list[str]:
    return (inspect.getdoc(step.stage) or "").splitlines()


def _explained(step: Step, entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a stage's entry, each parameter below its description as a comment."""
    kind, parameters = next(iter(entry.items()))
    about = {name: known.description for name, known in type(step.stage).model_fields.items()}
    yield f"- {kind}:" if parameters else f"- {kind}: {{}}"
    for name, value in parameters.items():
        yield from textwrap.wrap(
            about.get(name) or "", 92, initial_indent="    # ", subsequent_indent="    # "
        )
        yield from (f"    {line}" for line in _dumped({name: value}))
    yield from (f"  {line}" for line in _dumped(_beside(step)))


def _dumped(value: Any) -> list[str]:
    return yaml_source.dump(value).removesuffix("\n").split("\n")
