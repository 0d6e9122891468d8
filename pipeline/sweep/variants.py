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


@dataclass(frozen=True)
class Variant:
    """Values by their paths, and a name that follows from them alone."""

    name: str
    values: dict[str, Any]


def variant(values: Mapping[str, Any]) -> Variant:
    """Return the variant with these values."""
    fields_of = [path.split(".")[-1] for path in values]
    words = [_word(value) for value in values.values()]
    parts = [f"{field}-{word}" for field, word in zip(fields_of, words, strict=True)]
    name = re.sub(r"[^a-z0-9._]+", "-", "-".join(parts).lower()).strip("-._")
    distinct = len(set(fields_of)) == len(fields_of)
    if not distinct or len(name) > LONGEST or not all(map(_is_told, values.values())):
        name = f"{name[:LONGEST].strip('-._')}-{value_sha256(dict(values))[:8]}"
    return Variant(name, dict(values))


def _word(value: Any) -> str:
    return re.sub(r"^([0-9.]+) %$", r"\1pct", f"{value}")


def _is_told(value: Any) -> bool:
    """Whether a name can hold a value as it is, and no other value reads like it.

    A text that reads as a number does.
    """
    if not _PLAIN.fullmatch(_word(value)):
        return False
    if isinstance(value, str):
        return not re.fullmatch(r"[-+.\de]+|true|false", value)
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
