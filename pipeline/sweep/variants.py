"""Variants: the recipe with one value of each field that varies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from pipeline.recipe import yaml_source
from pipeline.recipe.recipe import LoadedRecipe
from pipeline.sweep import fields
from pipeline.sweep.sweep_file import Sweep
from pipeline.terms.digests import value_sha256

LONGEST: Final = 48
_PLAIN: Final = re.compile(r"[a-z0-9._]+(?:-[a-z0-9._]+)*")
"""What a name can hold as it is."""
_NUMBER: Final = re.compile(r"[-+.\de]+|true|false")
"""A text that reads like a value that is no text."""


@dataclass(frozen=True)
class Variant:
    """Values by their paths, and a name that follows from them alone."""

    name: str
    values: dict[str, Any]


def variant(values: Mapping[str, Any]) -> Variant:
    """Return the variant with these values."""
    words = {}
    for path, value in values.items():
        field = path.split(".")[-1]
        words[field] = _word(value)
    parts = [f"{field}-{word}" for field, word in words.items()]
    text = "-".join(parts).lower()
    name = re.sub(r"[^a-z0-9._]+", "-", text).strip("-._")
    distinct = len(words) == len(values)
    if distinct and len(name) <= LONGEST and all(map(_is_plain, values.values())):
        return Variant(name, dict(values))
    start = name[:LONGEST].strip("-._")
    digest = value_sha256(dict(values))
    return Variant(f"{start}-{digest[:8]}", dict(values))


def _word(value: Any) -> str:
    return re.sub(r"^([0-9.]+) %$", r"\1pct", str(value))


def _is_plain(value: Any) -> bool:
    """Whether a name can hold a value as it is, and no other value reads like it.

    A text that reads as a number does.
    """
    if not _PLAIN.fullmatch(_word(value)):
        return False
    if isinstance(value, str):
        return not _NUMBER.fullmatch(value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def without_budgets(loaded: LoadedRecipe) -> str:
    """Return the text of a recipe without its budgets, which branches do not judge."""
    values = yaml_source.parse(loaded.text.encode(), loaded.where.source).values
    values.pop("budgets", None)
    return yaml_source.dump(values)


def grid(sweep: Sweep) -> list[Variant]:
    """Return every combination; the values of the earliest step change first.

    So branches that run beside each other differ from an early step on, and do not wait for each
    other's work. Later ones find it in the store.
    """
    ids = sweep.recipe.ids

    def position(path: str) -> int:
        first = fields.split(path, ids)[0]
        return ids.index(first) if first in ids else 0

    paths = sorted(sweep.file.vary, key=position, reverse=True)
    choices = [sweep.file.values(path) for path in paths]
    variants = []
    for combination in product(*choices):
        values = dict(zip(paths, combination, strict=True))
        variants.append(variant({path: values[path] for path in sweep.file.vary}))
    return variants


def recipe(sweep: Sweep, values: Mapping[str, Any], name: str = "") -> LoadedRecipe:
    """Return the recipe with a variant's values. Raises RecipeError if they do not go together."""
    return fields.with_values(sweep.recipe, sweep.values, values, name)
