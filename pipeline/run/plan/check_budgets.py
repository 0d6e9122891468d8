"""Refuse budgets that cannot be judged, before anything runs.

Metrics of one's own are tried on predictions that are made up.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rarefy.pipeline.model.runtime.providers import is_on_cpu
from rarefy.pipeline.recipe.recipe import MODEL, LoadedRecipe, Recipe, Step
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.tasks.load import Summary
from rarefy.pipeline.terms.budget import EVERY, FEWEST_ROWS, OTHER, Budget, find_problems, frequent
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.metrics import METRICS, OwnMetric, find, is_own, known, precision_in
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.pipeline.terms.wording import hint, number, plural

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


MOST_NAMED = 20
"""Values of a column, the most frequent ones, among which a mistyped one is looked for."""
OF_LABELS = ("score", "error")
"""The kinds of metrics that compare answers with labels."""
CALLS = 4000
"""The bootstrap of a function with one number for all rows calls it about as often, a model."""
LONGEST = 0.1
"""The seconds that such a function may take: those of all calls are minutes then."""
SURE = 0.9
"""The probability of the true label."""


def check(loaded: LoadedRecipe, task: Task) -> None:
    """Raise RecipeError if a budget makes no sense, or nothing measures it."""
    recipe = loaded.recipe
    for budget in recipe.budgets:
        metric = budget.metric
        lacks_label = known(metric).of_label and budget.label is None
        if find(metric) and not lacks_label:
            continue
        scores = (*task.scorer.score_names(recipe.data), *task.scorer.on_request)
        names = dict.fromkeys((*scores, *METRICS))
        problem = f"unknown metric {metric!r}{hint(metric, names)}"
        if lacks_label:
            near = hint(metric, scores)
            problem = f"{metric} is of one label: give label: NAME, or label: '*' for each{near}"
        raise loaded.where.say(("budgets",), problem)
    problems = find_problems(recipe.budgets)
    if problems:
        raise loaded.where.say(("budgets",), problems[0])
    reports = [step for step in loaded.steps if step.stage.produces is Kind.REPORT]
    if recipe.budgets and all(step.stage.policy.aside for step in reports):
        raise loaded.where.say(
            ("stages",), "no 'validate' stage measures the budgets; add one after 'export'"
        )
    for position, budget in enumerate(recipe.budgets):
        for key, problem in _problems(recipe, budget, task):
            raise loaded.where.say(("budgets", position, key), problem)


def _problems(recipe: Recipe, budget: Budget, task: Task) -> Iterator[tuple[str, str]]:
    """Yield why a budget cannot be judged: the key that is wrong, and a sentence."""
    for target in recipe.targets:
        if budget.caches == "cold" and _is_on_gpu(budget, target):
            yield (
                "caches",
                f"the target {target.name!r} has its model in the memory of a GPU, whose "
                "caches are not emptied; name another target",
            )
    if _needs_labels(budget.metric):
        yield from _score_problems(recipe, budget, task)
    yield from slice_problems(recipe, budget, task)
    if budget.metric == "agreement" and budget.against and not task.unlabelled:
        yield (
            budget.form,
            "agreement is with a reference already, unless data.label is null; use 'min'",
        )
    if budget.metric == "kl" and not task.scorer.probable:
        yield "metric", f"the predictions of {task.name} are not probabilities, so they have no kl"


def _score_problems(recipe: Recipe, budget: Budget, task: Task) -> Iterator[tuple[str, str]]:
    """Yield why a budget on a score cannot be judged."""
    metric = budget.metric
    if known(metric).of_label and not task.unlabelled:
        return  # which labels there are, ``check_cells`` knows
    if task.unlabelled:
        if metric not in task.scorer.score_names(recipe.data):
            yield (
                "metric",
                f"{metric} needs labels, but data.label is null; agreement and kl compare with "
                "the model's own predictions",
            )
        return
    if is_own(metric):
        problem = _own_problem(recipe, task)
        if problem:
            yield "metric", problem
        return
    scores = task.scorer.score_names(recipe.data)
    if not scores or metric in scores:
        return
    if task.scorer.requested(metric) is None:
        names = ", ".join((*scores, *task.scorer.on_request))
        yield "metric", f"{task.name} has no {metric} for such data; its scores are {names}"


def _own_problem(recipe: Recipe, task: Task) -> str | None:
    """Return why a function cannot be a metric of the task; None if it can."""
    ranks = task.objective.linear == "scores" and recipe.data.group
    if task.objective.linear and not ranks:
        return None
    return (
        f"a metric of one's own gets one prediction for each row; {task.name} has others for "
        "such data"
    )


def notes(loaded: LoadedRecipe, task: Task) -> list[str]:
    """Return which of two labels a metric takes for the positive one, for those that ask for it."""
    if not task.scorer.counted or len(task.labels) != 2:
        return []
    names = dict[str, None]()
    for budget in loaded.recipe.budgets:
        metric = budget.metric
        if metric == "average_precision" or precision_in(metric):
            names[metric] = None
    if not names:
        return []
    positive = task.labels[-1]
    metrics = ", ".join(names)
    return [f"{metrics}: of the label {positive!r}, the last one"]


def _is_on_gpu(budget: Budget, target: Target) -> bool:
    """Return whether a budget is about a target whose model is on a GPU."""
    if budget.target not in (None, target.name):
        return False
    return not is_on_cpu(target.provider)


def check_references(loaded: LoadedRecipe, kinds: dict[str, Kind]) -> None:
    """Raise RecipeError if a budget is against a step that the last ``validate`` does not measure.

    It measures what it reads: the steps of its chain, and those that it names.
    """
    judges = []
    for step in loaded.steps:
        if step.stage.produces is Kind.REPORT and not step.stage.policy.aside:
            judges.append(step)
    if not judges:
        return
    last = judges[-1]
    inputs = {MODEL, *loaded.ancestors(last), *last.stage.references().values()}
    readable = {name: kind for name, kind in kinds.items() if name in inputs}
    measured = loaded.call(last.stage.measures, readable)
    for position, budget in enumerate(loaded.recipe.budgets):
        name = budget.against or ""
        if name not in kinds:
            continue
        if name in measured:
            if kinds[name] is Kind.TRANSFER_SET:
                _check_compares_answers(loaded, position, budget)
            continue
        hint = ""
        if kinds[name] is Kind.CHECKPOINT:
            hint = f"; name it in the 'models' of {last.id}"
        elif kinds[name] is Kind.TRANSFER_SET:
            hint = f"; a label stage with a file can be named in the 'predictions' of {last.id}"
        names = ", ".join(sorted(measured)) or "none"
        raise loaded.where.say(
            ("budgets", position, "against"),
            f"{name!r} is not measured as a reference; measured are: {names}{hint}",
        )
    _check_adapter(loaded, last, kinds)


def _check_adapter(loaded: LoadedRecipe, judge: Step, kinds: dict[str, Kind]) -> None:
    """Raise RecipeError if a budget is on an adapter's memory, and the bundle has no adapter."""
    has_file = False
    if judge.input != MODEL:
        bundle = loaded.step(judge.input)
        has_file = kinds[bundle.input] is Kind.ADAPTER
    for position, budget in enumerate(loaded.recipe.budgets):
        if budget.metric != "adapter_memory":
            continue
        if not has_file:
            problem = "adapter_memory needs an adapter in a file: 'adapt', and no 'merge' after it"
            raise loaded.where.say(("budgets", position, "metric"), problem)
        if budget.against in kinds:
            problem = (
                f"{budget.against!r} has no adapter in a file; compare with a tag, or give max"
            )
            raise loaded.where.say(("budgets", position, "against"), problem)


def _check_compares_answers(loaded: LoadedRecipe, position: int, budget: Budget) -> None:
    """Raise RecipeError if a budget compares anything but answers with a file of predictions."""
    metric = known(budget.metric)
    if metric.from_rows:
        return
    problem = (
        f"{budget.against!r} has predictions of a file alone, so it has no {budget.metric}; "
        "compare with a model"
    )
    raise loaded.where.say(("budgets", position, "against"), problem)


def _needs_labels(metric: str) -> bool:
    """Return whether a metric is a score or an error, which compare answers with labels."""
    return known(metric).kind in ("score", "error")


def slice_problems(recipe: Recipe, budget: Budget, task: Task) -> Iterator[tuple[str, str]]:
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


def check_cells(loaded: LoadedRecipe, task: Task, labels: Sequence[str], summary: Summary) -> None:
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


def cell_notes(loaded: LoadedRecipe, summary: Summary) -> list[str]:
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


def check_own_metrics(loaded: LoadedRecipe, task: Task, rows: int) -> None:
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
            _check_own_metric(budget.own, task, rows)
        except RecipeError as error:
            raise loaded.where.say(("budgets", position, "metric"), str(error)) from error


def _check_own_metric(metric: OwnMetric, task: Task, rows: int) -> None:
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
