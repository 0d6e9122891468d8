"""The kind of artifact that each step of a recipe makes, and orders of stages that cannot work."""

from __future__ import annotations

from pipeline.recipe.recipe import MODEL, LoadedRecipe
from pipeline.run.choosing import HEADED
from pipeline.stage import Stage
from pipeline.store.artifact import Kind

TEACHER = "teacher"
"""The role of models whose answers are learned, so that they must have the task's head."""


def follow(loaded: LoadedRecipe, first: dict[str, Kind]) -> dict[str, Kind]:
    """Return the kind of each step's output, by its id; ``first`` has that of the model.

    Raises RecipeError if a stage cannot take what the step before it makes.
    """
    kinds = dict(first)
    earlier: dict[str, Stage] = {}
    for step in loaded.steps:
        given, stage = kinds[step.input], step.stage
        if given not in stage.consumes:
            wanted = " or ".join(sorted(_a(kind) for kind in stage.consumes))
            raise loaded.error(
                step,
                f"takes {wanted}, but {step.input!r} makes {_a(given)}"
                f"{_remedy(given, stage, step.input)}",
            )
        for role, name in stage.references().items():
            if name == MODEL and kinds[MODEL] is Kind.ENCODER:
                raise loaded.error(step, f"{role}: the recipe's model has no head for the task")
            made = kinds[name]
            if needed := _needed(stage, role.partition(":")[0], made):
                raise loaded.error(step, f"{role}: {name!r} makes {_a(made)}, not {needed}")
        loaded.asked(stage.check_named, earlier, check=True)
        kinds[step.id], earlier[step.id] = stage.produces or given, stage
    return kinds


def _needed(stage: Stage, role: str, made: Kind) -> str | None:
    """Return in words what a role of a stage needs if that is not what was made, else None."""
    if needed := stage.needs.get(role):
        return None if made is needed else _a(needed)
    if role == TEACHER:
        return None if made in HEADED else "a model with a head"
    return "a model" if made is Kind.TRANSFER_SET else None


def _a(kind: Kind) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _remedy(given: Kind, stage: Stage, maker: str) -> str:
    """Return the usual fix for a wrong order, to end the error message."""
    if given is Kind.ADAPTER:
        return "; put 'merge' between them"
    if stage.consumes == {Kind.ADAPTER}:
        return "; put 'adapt' before it"
    if given is Kind.ENCODER:
        named = "; a head of its own is used if it is the task's and has the data's labels"
        return "; put 'finetune' before it" + (named if maker == MODEL else "")
    if stage.consumes == {Kind.BUNDLE}:
        return "; put 'export' before it"
    return "; give it another input with 'from'"
