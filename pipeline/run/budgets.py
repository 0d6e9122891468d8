"""What of a recipe's budgets can be refused before anything runs."""

from __future__ import annotations

from pipeline.model.runtime import DEVICES
from pipeline.recipe.recipe import MODEL, LoadedRecipe
from pipeline.stage.tasks import Task
from pipeline.store.artifact import Kind
from pipeline.terms.budget import find_problems


def check(loaded: LoadedRecipe, task: type[Task]) -> None:
    """Raise RecipeError if a budget makes no sense, or nothing measures it."""
    recipe = loaded.recipe
    problems = find_problems(recipe.budgets)
    if problems:
        raise loaded.where.say(("budgets",), problems[0])
    reports = [step for step in loaded.steps if step.stage.produces is Kind.REPORT]
    if recipe.budgets and all(step.stage.aside for step in reports):
        raise loaded.where.say(
            ("stages",), "no 'validate' stage measures the budgets; add one after 'export'"
        )
    for position, budget in enumerate(recipe.budgets):
        for target in recipe.targets:
            on_gpu = DEVICES[target.provider] != "cpu" and budget.target in (None, target.name)
            if budget.caches == "cold" and on_gpu:
                raise loaded.where.say(
                    ("budgets", position, "caches"),
                    f"the target {target.name!r} has its model in the memory of a GPU, whose "
                    "caches are not emptied; name another target",
                )
        if task.unlabelled and budget.metric not in task.scores and _by_labels(budget.metric):
            raise loaded.where.say(
                ("budgets", position, "metric"),
                f"{budget.metric} needs labels, but data.label is null; agreement and kl compare "
                "with the model's own answers",
            )
        scores = task.scored(recipe.data)
        if (
            not task.unlabelled
            and scores
            and budget.metric not in scores
            and _by_labels(budget.metric)
        ):
            raise loaded.where.say(
                ("budgets", position, "metric"),
                f"{task.name} has no {budget.metric} for such data; its scores are "
                f"{', '.join(scores)}",
            )
        if budget.metric == "agreement" and budget.against and not task.unlabelled:
            raise loaded.where.say(
                ("budgets", position, budget.form),
                "agreement is with a reference already, unless data.label is null; use 'min'",
            )
        if budget.metric == "kl" and not task.probable:
            raise loaded.where.say(
                ("budgets", position, "metric"),
                f"the answers of {task.name} are no probabilities, so they have no kl",
            )


def check_references(loaded: LoadedRecipe, kinds: dict[str, Kind]) -> None:
    """Raise RecipeError if a budget is against a step that the last ``validate`` does not measure.

    It measures what it reads: the steps of its chain, and those that it names.
    """
    judging = [s for s in loaded.steps if s.stage.produces is Kind.REPORT and not s.stage.aside]
    if not judging:
        return
    last = judging[-1]
    read = {MODEL, *loaded.ancestors(last), *last.stage.references().values()}
    able = {name: kinds[name] for name in kinds if name in read}
    measured = loaded.asked(last.stage.measures, able)
    for position, budget in enumerate(loaded.recipe.budgets):
        if budget.against in kinds and budget.against not in measured:
            may_be = kinds[budget.against] is Kind.CHECKPOINT
            hint = f"; name it in the 'models' of {last.id}" if may_be else ""
            raise loaded.where.say(
                ("budgets", position, "against"),
                f"{budget.against!r} is not measured as a reference; "
                f"measured are: {', '.join(sorted(measured)) or 'none'}{hint}",
            )


def _by_labels(metric: str) -> bool:
    from pipeline.terms.metrics import known

    return known(metric).kind in ("score", "error")
