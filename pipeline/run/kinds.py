"""The kind of artifact that each step of a recipe makes, and orders of stages that cannot work."""

from __future__ import annotations

from pipeline.recipe.recipe import MODEL, LoadedRecipe
from pipeline.stage import Stage
from pipeline.store.artifact import Kind
from pipeline.terms.errors import RecipeError


def follow(loaded: LoadedRecipe, first: dict[str, Kind]) -> dict[str, Kind]:
    """Return the kind of each step's output, by its id; ``first`` has that of the model.

    Raises RecipeError if a stage cannot take what the step before it makes.
    """
    kinds = dict(first)
    for step in loaded.steps:
        given, stage = kinds[step.input], step.stage
        if given not in stage.consumes:
            wanted = " or ".join(sorted(_a(kind) for kind in stage.consumes))
            raise loaded.error(
                step,
                f"takes {wanted}, but {step.input!r} makes {_a(given)}{_remedy(given, stage)}",
            )
        named = {}
        for role, name in stage.references().items():
            if name != MODEL:
                named[role] = loaded.step(name).stage
            elif kinds[MODEL] is Kind.ENCODER:
                raise loaded.error(step, f"{role}: the recipe's model has no head for the task")
            needed, made = stage.needs.get(role.partition(":")[0]), kinds[name]
            if made is not needed if needed else made is Kind.TRANSFER_SET:
                wanted = _a(needed) if needed else "a model"
                raise loaded.error(step, f"{role}: {name!r} makes {_a(made)}, not {wanted}")
        try:
            stage.check_named(named)
        except RecipeError as error:
            raise loaded.error(step, str(error)) from error
        kinds[step.id] = stage.produces or given
    return kinds


def _a(kind: Kind) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _remedy(given: Kind, stage: Stage) -> str:
    """Return the usual fix for a wrong order, to end the error message."""
    if given is Kind.ADAPTER:
        return "; put 'merge' between them"
    if stage.consumes == {Kind.ADAPTER}:
        return "; put 'adapt' before it"
    if given is Kind.ENCODER:
        return "; put 'finetune' before it"
    if stage.consumes == {Kind.BUNDLE}:
        return "; put 'export' before it"
    return "; give it another input with 'from'"
