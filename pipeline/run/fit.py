"""Whether a recipe's task and lengths fit its data, its stages and its model."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.model.architectures.description import Config
from pipeline.recipe.recipe import LoadedRecipe
from pipeline.stage import locating, tasks
from pipeline.stage.locating import Located
from pipeline.stage.tasks import Task
from pipeline.terms.errors import RecipeError


def check_known(loaded: LoadedRecipe) -> None:
    """Raise RecipeError if there is no such task."""
    try:
        tasks.find(loaded.recipe.task)
    except RecipeError as error:
        raise loaded.where.say(("task",), str(error)) from error


def check_task(loaded: LoadedRecipe, task: type[Task]) -> None:
    """Raise RecipeError if the task has no windows, or a stage cannot be used for it."""
    recipe, why = loaded.recipe.data, task.no_windows
    if recipe.long_texts == "windows" and (why or len(recipe.text_columns) > 1):
        reason = f"{task.name}: {why}" if why else "a pair of texts has no windows"
        raise loaded.where.say(("data", "long_texts"), f"{reason}; leave it out")
    for step in loaded.steps:
        loaded.asked(step.stage.check_task, task, check=True)
        loaded.asked(step.stage.check_columns, len(recipe.text_columns), check=True)


def check_model(loaded: LoadedRecipe, located: Located, task: type[Task]) -> None:
    """Raise RecipeError if the model has a table of positions that is too short.

    Also if embeddings would be others than the model's, because it reads texts in another way, or
    if a stage's parameter does not fit the data's length.
    """
    given = loaded.recipe.data.max_length
    if located.positions is not None and given > located.positions:
        raise loaded.where.say(
            ("data", "max_length"),
            f"{given} tokens, but the model has positions for only {located.positions}",
        )
    if task.body_only and located.other_texts is not None:
        raise loaded.where.say(("model",), located.other_texts)
    for step in loaded.steps:
        loaded.asked(step.stage.check_length, given, check=True)


def check_made(loaded: LoadedRecipe, configs: Mapping[str, Config]) -> None:
    """Raise RecipeError if a stage makes a model whose table of positions is too short.

    A student that is pretrained has a table of its own. ``configs``: what is known of each step's.
    """
    given = loaded.recipe.data.max_length
    for step in loaded.steps:
        positions = locating.positions(configs[step.id])
        if positions is not None and given > positions:
            raise loaded.error(
                step,
                f"its model has positions for only {positions} tokens, but data.max_length is "
                f"{given}",
            )
