"""Locations in a recipe's file: errors get file, line and key, and a hint at misspelt keys."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rarefy.pipeline.recipe import yaml_file
from rarefy.pipeline.sources.plugin_code import OWN
from rarefy.pipeline.terms.budget import REGRESSIONS
from rarefy.pipeline.terms.errors import RarefyError, RecipeError
from rarefy.pipeline.terms.suggestions import hint, synonym

T = TypeVar("T")


@dataclass(frozen=True)
class Places:
    """Turns locations in the recipe into ``file:line: key``."""

    source: str
    lines: dict[yaml_file.Location, int]

    def budgets(self, count: int) -> list[yaml_file.Location]:
        """Return where each budget is written: a short form stands for several."""
        places: list[yaml_file.Location] = []
        for position in range(count):
            at: yaml_file.Location = ("budgets", position)
            entry = at if at in self.lines else ("budgets",)
            has_metric = (*entry, "metric") in self.lines
            is_short = (*entry, "max_regression") in self.lines and not has_metric
            places += [at] * (len(REGRESSIONS) if is_short else 1)
        return places[:count]

    def say(self, at: yaml_file.Location, message: str) -> RecipeError:
        """Return an error about a place; of budgets, ``at`` counts what short forms stand for."""
        if not self.lines:  # a recipe built in Python has no file
            return RecipeError(f"{self.source}: {_dotted(at)}: {message}")
        if len(at) > 1 and at[0] == "budgets" and isinstance(at[1], int):
            entry = self.budgets(at[1] + 1)[-1]
            at = (*entry, *at[2:])
        line = self._line(at)
        return RecipeError(f"{self.source}:{line}: {_dotted(at)}: {message}")

    def _line(self, at: yaml_file.Location) -> int:
        """Return the line of a place, or of the nearest one around it that the file has."""
        while at and at not in self.lines:
            at = at[:-1]
        return self.lines.get(at, 1)

    def call(
        self, at: yaml_file.Location, hook: Callable[..., T], *arguments: Any, check: bool = False
    ) -> T:
        """Call a method of a stage and return its result.

        An error of code that is not ours is an error of this place. With ``check``, a RecipeError
        is, too.
        """
        try:
            return hook(*arguments)
        except Exception as error:
            if check and isinstance(error, RecipeError):
                raise self.say(at, str(error)) from error
            stage = type(getattr(hook, "__self__", None))
            is_own = stage.__module__.partition(".")[0] in OWN
            if isinstance(error, RarefyError) or is_own:
                raise
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise self.say(at, f"{hook.__name__}: {reason}") from error

    def error(
        self, error: ValidationError, model: type[BaseModel], at: yaml_file.Location
    ) -> RecipeError:
        """Report the most helpful of pydantic's errors, with a hint if a key is unknown."""
        first = _foremost(error.errors())
        place = _place(first)
        where = (*at, *place)
        if first["type"] == "extra_forbidden":
            siblings = _fields_at(model, place[:-1])
            return self.say(where, f"unknown key{hint(place[-1], siblings)}")
        if first["type"] == "missing":
            return self.say(where, "this key is required")
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] in ("tuple_type", "list_type"):
            message = "give a list, such as [one, two]"
        value = first.get("input")
        if first["type"] == "literal_error":
            expected = str(first.get("ctx", {}).get("expected", ""))
            near = synonym(value, re.findall("'([^']+)'", expected))
            if near:
                message += f", did you mean {near!r}?"
        if isinstance(value, str | int | float | bool):
            message += f" (found {value!r})"
        return self.say(where, message)


def _foremost(errors: list[ErrorDetails]) -> ErrorDetails:
    """Return the most helpful error.

    An unknown key often explains a missing one. For a union, the error from the member of the right
    type is the helpful one.
    """
    for error in errors:
        if error["type"] == "extra_forbidden":
            return error
    place = _place(errors[0])
    for error in errors:
        is_below = _place(error)[: len(place)] == place
        if is_below and not error["type"].endswith("_type"):
            return error
    return errors[0]


def _place(error: ErrorDetails) -> tuple[str | int, ...]:
    return tuple(part for part in error["loc"] if not _is_union_tag(part))


def _is_union_tag(part: str | int) -> bool:
    """Return whether pydantic added this part to name a union's member; it is not a key."""
    if not isinstance(part, str):
        return False
    return part in ("str", "Range", "function-before[parse(), float]") or "[" in part


def _fields_at(model: type[BaseModel], place: tuple[str | int, ...]) -> list[str]:
    """Return the known keys at a location below ``model``."""
    schema = model.model_json_schema()
    node: dict[str, Any] = schema
    for part in place:
        node = _resolve(schema, node)
        if isinstance(part, int):
            node = node.get("items", {})
        else:
            fields = node.get("properties", {})
            node = fields.get(part, {})
    fields = _resolve(schema, node).get("properties", {})
    return list(fields)


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    for option in node.get("anyOf", []):
        if "$ref" in option:
            node = option
    if "$ref" not in node:
        return node
    name = node["$ref"].rsplit("/", 1)[-1]
    definition: dict[str, Any] = schema["$defs"][name]
    return definition


def _dotted(at: yaml_file.Location) -> str:
    text = ""
    for part in at:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else str(part)
    return text or "recipe"
