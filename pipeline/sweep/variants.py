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
from pipeline.sweep.sweep_file import Range, Sweep
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
    parts = [f"{path.split('.')[-1]}-{_shown(value)}" for path, value in values.items()]
    name = re.sub(r"[^a-z0-9._]+", "-", "-".join(parts).lower()).strip("-._")
    whole = all(_PLAIN.fullmatch(_shown(value)) and _told(value) for value in values.values())
    if not whole or len(name) > LONGEST or len(parts) != len({p.split("-")[0] for p in parts}):
        name = f"{name[:LONGEST].strip('-._')}-{value_sha256(dict(values))[:8]}"
    return Variant(name, dict(values))


def _shown(value: Any) -> str:
    return re.sub(r"^([0-9.]+) %$", r"\1pct", f"{value}")


def _told(value: Any) -> bool:
    """Whether no other value is shown like this one: a text that reads as a number is."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number or (isinstance(value, str) and not re.fullmatch(r"[-+.\de]+|true|false", value))


def without_budgets(loaded: LoadedRecipe) -> str:
    """Return the text of a recipe without its budgets, which branches do not judge."""
    values = yaml_source.parse(loaded.text.encode(), loaded.where.source).values
    return yaml_source.dump({key: value for key, value in values.items() if key != "budgets"})


def grid(sweep: Sweep) -> list[Variant]:
    """Return every combination, the first field's values changing last.

    Neighbours have most steps in common, so the later of them finds the work of the earlier.
    """
    lists = {
        key: list(choices)
        for key, choices in sweep.file.vary.items()
        if not isinstance(choices, Range)
    }
    return [variant(dict(zip(lists, values, strict=True))) for values in product(*lists.values())]


def recipe(sweep: Sweep, one: Variant, name: str = "") -> LoadedRecipe:
    """Return a variant's recipe. Raises RecipeError if its values do not go together."""
    return fields.with_values(sweep.recipe, sweep.values, one.values, name)
