"""Refuse budgets on labels and slices that no row can have, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rarefy.pipeline.recipe.recipe import LoadedRecipe, Recipe
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.tasks.load import Summary
from rarefy.pipeline.terms.budget import EVERY, FEWEST_ROWS, OTHER, Budget, frequent
from rarefy.pipeline.terms.metrics import known
from rarefy.pipeline.terms.suggestions import hint
from rarefy.pipeline.terms.wording import plural

MOST_NAMED = 20
"""Values of a column, the most frequent ones, among which a mistyped one is looked for."""
OF_LABELS = ("score", "error")
"""The kinds of metrics that compare answers with labels."""


def problems(recipe: Recipe, budget: Budget, task: Task) -> Iterator[tuple[str, str]]:
    """Yield why a budget on a slice cannot be judged, whatever the rows are: the key and why."""
    if budget.slice is None:
        return
    column, _ = budget.column_and_value
    columns = recipe.data.slices
    if column not in columns:
        advice = "; add it there"
        if columns:
            advice = hint(column, columns)
        yield "slice", f"{column!r} is not one of data.slices{advice}"
    scores = task.scorer.score_names(recipe.data)
    if known(budget.metric).kind not in OF_LABELS and budget.metric not in scores:
        names = ", ".join(scores)
        yield "slice", f"{budget.metric} is of all rows; a slice has {names}"


def check(loaded: LoadedRecipe, task: Task, labels: Sequence[str], summary: Summary) -> None:
    """Raise RecipeError if a budget is on a label or on a value that the eval rows cannot have.

    Args:
        loaded: The recipe.
        task: What its rows are for.
        labels: Of the task, in order.
        summary: What is in the data.
    """
    names = task.presenter.label_names(labels)
    for position, budget in enumerate(loaded.recipe.budgets):
        key, problem = "label", None
        if budget.label is not None:
            problem = _label_problem(budget.label, names, task)
        elif budget.slice is not None:
            key, problem = "slice", _value_problem(budget, summary)
        if problem is not None:
            raise loaded.where.say(("budgets", position, key), problem)


def notes(loaded: LoadedRecipe, summary: Summary) -> list[str]:
    """Return for each column of a budget on every value how many of these are one cell."""
    columns = dict[str, None]()
    for budget in loaded.recipe.budgets:
        column, value = budget.column_and_value if budget.slice else ("", "")
        if value == EVERY:
            columns[column] = None
    sentences = []
    for column in columns:
        counts = summary.slices.get(column, {})
        rare = counts.keys() - frequent(counts)
        if rare:
            rows = sum(counts[value] for value in rare)
            values = plural(len(rare), "value")
            sentences.append(
                f"{column}=*: {values} with fewer than {FEWEST_ROWS} eval rows are judged "
                f"together as {OTHER}, {plural(rows, 'row')}"
            )
    return sentences


def _label_problem(label: str, names: Sequence[str], task: Task) -> str | None:
    """Return why a label is none of the task's, None if it is one."""
    if not names:
        return f"{task.name} has no labels"
    if label in (EVERY, *names):
        return None
    near = hint(label, names)
    return f"{label!r} is not a label{near}"


def _value_problem(budget: Budget, summary: Summary) -> str | None:
    """Return why a budget's slice has no rows, or ``*`` no cells; None if there are some."""
    column, value = budget.column_and_value
    counts = summary.slices.get(column, {})
    if value == EVERY and not frequent(counts):
        return (
            f"no value of {column!r} has {FEWEST_ROWS} eval rows, so all would be one cell; "
            "name a value, or another column"
        )
    if value in (EVERY, *counts):
        return None
    common = sorted(counts, key=lambda name: -counts[name])
    near = hint(value, common[:MOST_NAMED])
    return f"no eval row has {value!r} in {column!r}{near}"
