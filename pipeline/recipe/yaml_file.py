"""YAML 1.2 with line numbers and size limits, and errors that name file, line and key.

``1e-4`` is a number, ``on`` is a string. At a misspelt key, an error has a hint.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rarefy.pipeline.recipe.removed import advise_instead
from rarefy.pipeline.sources.plugin_code import OWN
from rarefy.pipeline.terms.budget import REGRESSIONS
from rarefy.pipeline.terms.errors import RarefyError, RecipeError
from rarefy.pipeline.terms.wording import file_hint, hint, synonym

T = TypeVar("T")

MAX_BYTES = 1_000_000
MAX_NODES = 20_000

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A YAML document: its text, its plain values, and the line of each key, counted from 1."""

    text: str
    values: Any
    lines: dict[Location, int]


class _Loader(yaml.SafeLoader):
    """A safe loader that resolves scalars by the core schema of YAML 1.2."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return a node's value; what PyYAML raises for a wrong one is an error of its line."""
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception:
            problem = f"the value does not fit its tag {node.tag!r}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )


class _Dumper(yaml.SafeDumper):
    """A safe dumper that quotes the strings that ``_Loader`` would read as something else."""


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def dump(value: Any) -> str:
    """Return plain values as YAML that ``parse`` reads back as the same values.

    Raises yaml.representer.RepresenterError for a value that is not plain.
    """
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(node.value)


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    """Read a decimal integer; PyYAML reads 010 as octal and fails on 09."""
    if len(node.value) > 1000:
        raise yaml.constructor.ConstructorError(
            None, None, "the number is too long", node.start_mark
        )
    return int(node.value)


_Loader.add_constructor("tag:yaml.org,2002:float", _float)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)


def read(path: Path) -> Document:
    """Read a YAML file.

    Raises RecipeError if the file is missing or unreadable, or if ``parse`` rejects it.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise RecipeError(f"{path}: cannot be read: it is not a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        near = file_hint(path, "*.yaml")
        raise RecipeError(f"{path}: no such recipe{near}") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # no file can have this name
        raise RecipeError(f"{path}: cannot be read: {error}") from None
    return parse(data, str(path))


def parse(data: bytes, path: str) -> Document:
    """Parse a YAML document; errors refer to it as ``path``.

    Raises RecipeError if the document is malformed, too deeply nested, too large (also once its
    aliases are expanded) or has duplicate keys.
    """
    if len(data) > MAX_BYTES:
        raise RecipeError(f"{path}: more than {MAX_BYTES} bytes, the limit for a recipe")
    lines: dict[Location, int] = {}
    try:
        text = data.decode()
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise RecipeError(f"{path}: the recipe is empty")
        _index(path, node, (), lines)
        return Document(text, loader.construct_document(node), lines)
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 at byte {error.start}") from None
    except RarefyError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else 1
        problem = f"{error.problem}{_unclosed(text, error.context_mark)}"
        raise RecipeError(f"{path}:{line}: not valid YAML: {problem}") from None
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise RecipeError(f"{path}: not valid YAML: {reason}") from None
    except RecursionError:
        raise RecipeError(f"{path}: the recipe is nested too deeply") from None
    except Exception as error:  # what PyYAML's constructors raise for a tag on a wrong value
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise RecipeError(
            f"{path}: not valid YAML: a value does not fit its tag: {reason}"
        ) from None


def _unclosed(text: str, opened: yaml.Mark | None) -> str:
    """Return the end of an error about a bracket that is found open lines below; else ""."""
    if opened is None:
        return ""
    bracket = text[opened.index : opened.index + 1]
    if bracket not in ("{", "["):
        return ""
    return f"; is the {bracket!r} of line {opened.line + 1} closed?"


def _index(path: str, node: yaml.Node, at: Location, lines: dict[Location, int]) -> None:
    """Record the line of every node. Each use of an alias counts towards the limit on values."""
    if len(lines) > MAX_NODES or len(at) > 50:
        raise RecipeError(f"{path}: the recipe expands to more than {MAX_NODES} values")
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise RecipeError(
                    f"{path}:{line}: a key must be a plain word, not a list or a mapping"
                )
            name = key.value
            if name in seen:
                raise RecipeError(f"{path}:{line}: duplicate key {name!r}")
            seen.add(name)
            below = (*at, name)
            lines[below] = line
            _index(path, value, below, lines)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            _index(path, value, (*at, position), lines)


@dataclass(frozen=True)
class Places:
    """Turns locations in the recipe into ``file:line: key``."""

    source: str
    lines: dict[Location, int]

    def budgets(self, count: int) -> list[Location]:
        """Return where each budget is written: a short form stands for several."""
        places: list[Location] = []
        for position in range(count):
            at: Location = ("budgets", position)
            entry = at if at in self.lines else ("budgets",)
            has_metric = (*entry, "metric") in self.lines
            is_short = (*entry, "max_regression") in self.lines and not has_metric
            places += [at] * (len(REGRESSIONS) if is_short else 1)
        return places[:count]

    def say(self, at: Location, message: str) -> RecipeError:
        """Return an error about a place; of budgets, ``at`` counts what short forms stand for."""
        if not self.lines:  # a recipe built in Python has no file
            return RecipeError(f"{self.source}: {_dotted(at)}: {message}")
        if len(at) > 1 and at[0] == "budgets" and isinstance(at[1], int):
            entry = self.budgets(at[1] + 1)[-1]
            at = (*entry, *at[2:])
        line = self._line(at)
        return RecipeError(f"{self.source}:{line}: {_dotted(at)}: {message}")

    def _line(self, at: Location) -> int:
        """Return the line of a place, or of the nearest one around it that the file has."""
        while at and at not in self.lines:
            at = at[:-1]
        return self.lines.get(at, 1)

    def call(self, at: Location, hook: Callable[..., T], *arguments: Any, check: bool = False) -> T:
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

    def error(self, error: ValidationError, model: type[BaseModel], at: Location) -> RecipeError:
        """Report the most helpful of pydantic's errors; the independent ones are its ``others``."""
        errors = []
        remaining = error.errors()
        while remaining:
            foremost = _foremost(remaining)
            errors.append(self._one_error(foremost, model, at))
            remaining = [other for other in remaining if not _follows(other, foremost)]
        first, *others = errors
        first.others = tuple(others)
        return first

    def _one_error(self, first: ErrorDetails, model: type[BaseModel], at: Location) -> RecipeError:
        """Report one of pydantic's errors, with a hint if a key is unknown."""
        place = _place(first)
        where = (*at, *place)
        if first["type"] == "extra_forbidden":
            advice = _advice(where)
            siblings = _fields_at(model, place[:-1])
            return self.say(where, advice or f"unknown key{hint(place[-1], siblings)}")
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


def _advice(at: Location) -> str | None:
    """Return what to write instead of a key that was renamed, else None."""
    *_, around, key = ("", *(part for part in at if isinstance(part, str)))
    return advise_instead(around, key)


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


def _follows(error: ErrorDetails, cause: ErrorDetails) -> bool:
    """Return whether an error may be gone once another is mended.

    That is so if it is the same place or one around it or in it, and if a key is missing beside an
    unknown one.
    """
    place, other = _place(error), _place(cause)
    if error["type"] == "missing" and cause["type"] == "extra_forbidden":
        return place[:-1] == other[:-1]
    shared = min(len(place), len(other))
    return place[:shared] == other[:shared]


def _place(error: ErrorDetails) -> tuple[str | int, ...]:
    return tuple(part for part in error["loc"] if not _is_union_tag(part))


def _is_union_tag(part: str | int) -> bool:
    """Return whether pydantic added this part to name a union's member; it is not a key."""
    if not isinstance(part, str):
        return False
    return part in ("str", "int", "bool", "Range", "function-before[parse(), float]") or "[" in part


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


def _dotted(at: Location) -> str:
    text = ""
    for part in at:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else str(part)
    return text or "recipe"
