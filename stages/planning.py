"""What a quantization plan depends on besides the model, its files, and what it is not for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from pipeline.model import blockwise, quantization
from pipeline.model.quantization import LinearPlan
from pipeline.stage import Stage
from pipeline.store.artifact import Artifact
from pipeline.terms.errors import RecipeError
from pipeline.terms.vocabulary import Isa, Target

SEARCH: Final = "search.json"
"""What a search for a plan has tried."""
FILES: Final = frozenset({quantization.FILE, SEARCH, blockwise.FILE})
"""What a checkpoint has of its plan; its form in full precision needs none of it."""


def narrowest(targets: tuple[Target, ...]) -> Isa:
    """Return ``vnni`` if that is what all of the recipe's CPUs have: the width to be measured."""
    wide = [target.isa == "vnni" for target in targets if target.provider in ("cpu", "openvino")]
    return "vnni" if wide and all(wide) else "avx2"


def symmetric(targets: tuple[Target, ...]) -> bool:
    """Return whether all of the recipe's targets that int8 is for have zero as the zero point."""
    int8 = {target.provider for target in targets} - {"cuda"}  # which has fp16 only
    return int8 == {"tensorrt"}


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
