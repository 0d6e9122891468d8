"""Locations in a recipe's file: errors get file, line and key, and a hint at misspelt keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.recipe import yaml_source
from pipeline.stage.code import OWN
from pipeline.terms.budget import REGRESSIONS
from pipeline.terms.errors import RarefyError, RecipeError
from pipeline.terms.naming import hint

T = TypeVar("T")


@dataclass(frozen=True)
class Places:
    """Turns locations in the recipe into ``file:line: key``."""

    source: str
    lines: dict[yaml_source.Location, int]

    def budgets(self, count: int) -> list[yaml_source.Location]:
        """Return where each budget is written: a short form stands for several."""
        found: list[yaml_source.Location] = []
        for at in [("budgets", place) for place in range(count)]:
            here = at if at in self.lines else ("budgets",)
            short = (*here, "max_regression") in self.lines and (*here, "metric") not in self.lines
            found += [at] * (len(REGRESSIONS) if short else 1)
        return found[:count]

    def say(self, at: yaml_source.Location, message: str) -> RecipeError:
        """Return an error about a place; of budgets, ``at`` counts what short forms stand for."""
        if not self.lines:  # a recipe built in Python has no file
            return RecipeError(f"{self.source}: {_dotted(at)}: {message}")
        if at[:1] == ("budgets",) and len(at) > 1 and isinstance(at[1], int):
            at = (*self.budgets(at[1] + 1)[-1], *at[2:])
        known = at
        while known and known not in self.lines:
            known = known[:-1]
        line = self.lines.get(known, 1)
        return RecipeError(f"{self.source}:{line}: {_dotted(at)}: {message}")

    def asked(
        self, at: yaml_source.Location, hook: Callable[..., T], *given: Any, check: bool = False
    ) -> T:
        """Return what a method of a stage answers.

        An error of code that is not ours is an error of this place. With ``check``, a RecipeError
        is, too.
        """
        try:
            return hook(*given)
        except Exception as error:
            if check and isinstance(error, RecipeError):
                raise self.say(at, str(error)) from error
            kind = type(getattr(hook, "__self__", None))
            if isinstance(error, RarefyError) or kind.__module__.partition(".")[0] in OWN:
                raise
            reason = next(iter(f"{type(error).__name__}: {error}".splitlines()))
            raise self.say(at, f"{hook.__name__}: {reason}") from error

    def error(
        self, error: ValidationError, model: type[BaseModel], at: yaml_source.Location
    ) -> RecipeError:
        """Report the most helpful of pydantic's errors, with a hint if a key is unknown."""
        first = _foremost(error.errors())
        place = _place(first)
        if first["type"] == "extra_forbidden":
            siblings = _fields_at(model, place[:-1])
            return self.say((*at, *place), f"unknown key{hint(place[-1], siblings)}")
        if first["type"] == "missing":
            return self.say((*at, *place), "this key is required")
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] in ("tuple_type", "list_type"):
            message = "give a list, such as [one, two]"
        given = first.get("input")
        shown = f" (found {given!r})" if isinstance(given, str | int | float | bool) else ""
        return self.say((*at, *place), f"{message}{shown}")


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
        if not error["type"].endswith("_type") and _place(error)[: len(place)] == place:
            return error
    return errors[0]


def _place(error: ErrorDetails) -> tuple[str | int, ...]:
    return tuple(part for part in error["loc"] if not _is_union_tag(part))


def _is_union_tag(part: str | int) -> bool:
    """Return whether pydantic added this part to name a union's member; it is not a key."""
    return isinstance(part, str) and (
        part in ("str", "function-before[parse(), float]") or "[" in part
    )


def _fields_at(model: type[BaseModel], place: tuple[str | int, ...]) -> list[str]:
    """Return the known keys at a location below ``model``."""
    schema = model.model_json_schema()
    node: dict[str, Any] = schema
    for part in place:
        node = _resolve(schema, node)
        if isinstance(part, int):
            node = node.get("items", {})
        else:
            node = node.get("properties", {}).get(part, {})
    return list(_resolve(schema, node).get("properties", {}))


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    for option in node.get("anyOf", []):
        if "$ref" in option:
            node = option
    if "$ref" in node:
        found: dict[str, Any] = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        return found
    return node


def _dotted(at: yaml_source.Location) -> str:
    text = ""
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "recipe"
