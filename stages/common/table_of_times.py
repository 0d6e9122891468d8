"""The stage that a recipe names for its table of times, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rarefy.pipeline.terms.errors import RecipeError

TABLE: Final = "table"
"""The role of the table of times among a stage's references."""


def check_precision(stages: Mapping[str, Any], table: str | None) -> None:
    """Raise RecipeError if the stage that makes a table of times has those of float models."""
    stage = stages.get(table or "")
    precision = getattr(stage, "precision", "int8")
    if precision == "int8":
        return
    raise RecipeError(
        f"table: {table!r} times float models, but a speed-up is measured in int8; leave out its "
        "'precision'"
    )
