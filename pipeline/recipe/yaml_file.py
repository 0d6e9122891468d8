"""YAML 1.2 with line numbers and size limits: ``1e-4`` is a number, ``on`` is a string."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rarefy.pipeline.terms.errors import RecipeError

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
        return parse(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None


def parse(data: bytes, path: str) -> Document:
    """Parse a YAML document; errors refer to it as ``path``.

    Raises RecipeError if the document is malformed, too deeply nested, too large (also once its
    aliases are expanded) or has duplicate keys.
    """
    if len(data) > MAX_BYTES:
        raise RecipeError(f"{path}: {len(data)} bytes; the limit for a recipe is {MAX_BYTES}")
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
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else 1
        raise RecipeError(f"{path}:{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise RecipeError(f"{path}: not valid YAML: {reason}") from None
    except RecursionError:
        raise RecipeError(f"{path}: the recipe is nested too deeply") from None


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
