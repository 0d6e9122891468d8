"""Refuse budgets that cannot be judged, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator

from rarefy.pipeline.model.runtime.providers import is_on_cpu
from rarefy.pipeline.recipe.recipe import MODEL, LoadedRecipe, Recipe, Step
from rarefy.pipeline.run.plan import check_cells
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.budget import Budget, find_problems
from rarefy.pipeline.terms.metrics import METRICS, find, is_own, known, precision_in
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.pipeline.terms.suggestions import hint


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
    yield from check_cells.problems(recipe, budget, task)
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
