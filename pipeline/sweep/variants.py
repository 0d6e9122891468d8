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


@dataclass(frozen=True)
class Variant:
    """Values by their paths, and a name that follows from them alone."""

    name: str
    values: dict[str, Any]


def variant(values: dict[str, Any]) -> Variant:
    """Return the variant with these values; its name ends with their digest if it must."""
    words = {path.split(".")[-1]: _word(value) for path, value in values.items()}
    parts = map("-".join, words.items())
    text = "-".join(parts)
    name = re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-._")
    distinct = name == text and len(words) == len(values)
    if not distinct or len(name) > LONGEST:
        digest = value_sha256(values)
        name = f"{name[:LONGEST]}-{digest[:8]}"
    return Variant(name, values)


def _word(value: Any) -> str:
    """Return a value as YAML, in which no two values look alike."""
    text = yaml_source.dump(value).removesuffix("\n...\n").strip()
    return re.sub(r"^([0-9.]+) %$", r"\1pct", text)


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


def recipe(sweep: Sweep, values: Mapping[str, Any]) -> LoadedRecipe:
    """Return the recipe with a variant's values. Raises RecipeError if they do not go together."""
    return fields.with_values(sweep.recipe, sweep.values, values)
