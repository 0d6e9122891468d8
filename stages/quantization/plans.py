"""What a quantization plan says of a layer, its files, and what it is not for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from rarefy.pipeline.model.quantization import four_bits
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.model.quantization.plan import LinearPlan
from rarefy.pipeline.stage import Stage
from rarefy.pipeline.store.artifact import Artifact
from rarefy.pipeline.terms.errors import RecipeError

SEARCH: Final = "search.json"
"""What a search for a plan has tried."""
FILES: Final = frozenset({quantization.FILE, SEARCH, four_bits.FILE})
"""What a checkpoint has of its plan; its form in full precision needs none of it."""


def in_int4(layer: LinearPlan) -> LinearPlan:
    """Return what a plan says of an int8 layer if its weights are stored in 4 bits."""
    return layer.model_copy(update={"precision": "int4", "damage": None})


def in_float(damage: float | None) -> LinearPlan:
    """Return what a plan says of a layer that stays as it is, and would do this damage in int8."""
    return LinearPlan(precision="float", damage=damage)


def check_weights(planner: Stage | None) -> None:
    """Raise RecipeError if a stage's plan forbids changing weights: in int4 they are the plan."""
    if getattr(planner, "weights", None) == "int4":
        raise RecipeError(
            "weights in int4 are rounded for the weights as they are; move 'quantize' behind it, "
            "or write quantize: {weights: int8}"
        )


def copied(model: Artifact, output: Path) -> dict[str, str]:
    """Copy a model's files except those of an older plan; return their roles."""
    roles = {}
    for entry in model.manifest.files:
        if entry.path not in FILES:
            target = output / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.directory / entry.path, target)
            roles[entry.path] = entry.role
    return roles
