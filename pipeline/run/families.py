"""Follow the model's family and number of layers along the chain, and refuse what cannot work."""

from __future__ import annotations

from pipeline.model.architectures.description import Config
from pipeline.recipe.recipe import LoadedRecipe
from pipeline.terms.errors import ModelError


def follow(loaded: LoadedRecipe, first: dict[str, Config]) -> dict[str, Config]:
    """Return what is known of the config of each step's model, by its id; ``first``: the input's.

    Raises RecipeError, with the stage's file and line, if a stage cannot work on such a model.
    """
    configs = dict(first)
    for step in loaded.steps:
        named = {role: configs[name] for role, name in step.stage.references().items()}
        try:
            given = (configs[step.input], named, loaded.base)
            configs[step.id] = loaded.asked(step.stage.follow_model, *given)
        except ModelError as error:
            raise loaded.error(step, str(error)) from error
    return configs
