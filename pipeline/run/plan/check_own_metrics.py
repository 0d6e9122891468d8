"""Try metrics of one's own before anything runs, on predictions that are made up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rarefy.pipeline.recipe.recipe import LoadedRecipe
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.own_metric import OwnMetric
from rarefy.pipeline.terms.wording import number, plural

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CALLS = 4000
"""The bootstrap of a function with one number for all rows calls it about as often, a model."""
LONGEST = 0.1
"""The seconds that such a function may take: those of all calls are minutes then."""
SURE = 0.9
"""The probability of the true label."""


def check(loaded: LoadedRecipe, task: Task, rows: int) -> None:
    """Raise RecipeError if a function raises, returns another shape or NaN, or takes too long.

    Args:
        loaded: the recipe.
        task: with its labels.
        rows: how many eval rows there are.
    """
    for position, budget in enumerate(loaded.recipe.budgets):
        if budget.own is None:
            continue
        try:
            _check(budget.own, task, rows)
        except RecipeError as error:
            raise loaded.where.say(("budgets", position, "metric"), str(error)) from error


def _check(metric: OwnMetric, task: Task, rows: int) -> None:
    """Call a function with predictions that are right."""
    from rarefy.pipeline.tasks.shared import own_formula

    predictions, labels = right_predictions(task, rows)
    value = own_formula.call(metric, predictions, labels)  # the first call may import something
    if value.ndim:
        return
    started = time.perf_counter()
    own_formula.call(metric, predictions, labels)
    seconds = time.perf_counter() - started
    if seconds <= LONGEST:
        return
    taken = number(seconds)
    of_rows = plural(rows, "row")
    raise RecipeError(
        f"the metric {metric.name} takes {taken} s for {of_rows}, and intervals need {CALLS:,} "
        "calls a model; let it return one number for each row"
    )


def right_predictions(task: Task, rows: int) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return predictions of made-up rows, each label in turn, and their labels; all are right."""
    import numpy as np

    number = np.arange(rows)
    if task.objective.linear == "scores":
        scores = number % 5 / 4
        return scores[:, None], scores
    count = len(task.labels)
    flags = np.eye(count, dtype=np.int64)[number % count]
    rest = 1 - SURE
    if task.objective.linear == "flags":
        probabilities = np.where(flags == 1, SURE, rest)
        return np.hstack([probabilities, flags]), flags
    rest /= max(count - 1, 1)
    probabilities = np.where(flags == 1, SURE, rest)
    return probabilities, number % count
