"""Resolve the tag of a budget to an artifact of this store or of a remote one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rarefy.pipeline import tasks
from rarefy.pipeline.model import safe_loading
from rarefy.pipeline.recipe.recipe import LoadedRecipe, Recipe
from rarefy.pipeline.store.artifact import Artifact, Kind
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.store.tags import NoTagError
from rarefy.pipeline.tasks import Task, unlabelled
from rarefy.pipeline.terms import credentials
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.pipeline.terms.recipe_parts import ANCHOR, NAME, REMOTE_TAG, RESERVED
from rarefy.pipeline.terms.wording import misspelt, nearest

COMPARABLE = (Kind.BUNDLE, Kind.CHECKPOINT)
USUAL: tuple[dict[str, Any], ...] = (
    {"max_drop": "1 point"},
    {"metric": "latency_p50", "max_regression": "5%"},
    {"metric": "size", "max_regression": "5%"},
)
"""The budgets against a baseline if the recipe has none; the first is on the task's main score."""
OF_STAGES = ("min_retained", "min_speedup", "min_shrink")
"""The forms that compare a bundle with a stage of its own recipe, as a rule."""
NEAR_STAGE = 0.7
"""How alike a missing tag and a stage must be for a typing error: ``latest`` and ``labels`` are
not."""


def open_tag(store: Store, name: str) -> Artifact:
    """Return the artifact that a tag points at; pull it first if the tag is remote (``URL#tag``).

    Raises NoTagError if the tag does not exist, RecipeError if it points at an artifact that
    makes no predictions.
    """
    if name in RESERVED:
        raise RecipeError("this name is reserved for a measured model; choose another tag")
    if REMOTE_TAG in name:
        artifact = _pulled(store, name)
    else:
        tag = store.find_tag(name)
        if tag is None:
            raise NoTagError(f"no tag in {store.root}", store.tags())
        artifact = store.open(name)
    if artifact.kind not in COMPARABLE:
        raise RecipeError(
            f"the tag points at {artifact.kind} {artifact.short}, which makes no predictions"
        )
    return artifact


def resolve(loaded: LoadedRecipe, store: Store, first: bool) -> dict[str, Artifact]:
    """Return the artifacts that a recipe's tags point at now; remote ones are pulled.

    Raises RecipeError at the budget if a tag does not exist, unless this is a ``first`` release.
    """
    artifacts = {}
    for name in loaded.tags:
        try:
            artifacts[name] = open_tag(store, name)
        except RecipeError as error:
            if not (first and isinstance(error, NoTagError)):
                raise _no_baseline(loaded, name, error) from None
            try:
                check_first(name, error, loaded.ids)
            except RecipeError as mistyped:
                raise _no_baseline(loaded, name, mistyped) from None
    return artifacts


def _no_baseline(loaded: LoadedRecipe, name: str, error: RecipeError) -> RecipeError:
    hint = ""
    if isinstance(error, NoTagError):
        near = nearest(name, [*loaded.ids, *error.tags])
        if near:
            hint = f"; did you mean {near!r}?"
        # With its command: `deploy` and `schedule`, which say this too, have no such option.
        hint += "; for a first release: `rarefy run --first` or `rarefy ci --first`"
    if name == loaded.baseline:  # of which the recipe's file says nothing
        return RecipeError(f"--baseline {name}: {error}{hint}")
    position = [budget.against for budget in loaded.recipe.budgets].index(name)
    return loaded.where.say(
        ("budgets", position, "against"),
        f"{name!r} is not a stage of this recipe, and {error}{hint}",
    )


def check_first(name: str, missing: NoTagError, ids: Sequence[str]) -> None:
    """Raise RecipeError if a tag that does not exist is rather mistyped than a first release.

    That is so if its remote does not exist either, or if there is a tag, or a stage among ``ids``,
    with nearly the same name.
    """
    tag = name
    if REMOTE_TAG in name:
        from rarefy.pipeline.store.remote import artifacts as remote

        url, tag = remote.split(name)
        remote.Remote.open(url).check_exists()
    elif near := misspelt(name, ids, NEAR_STAGE):
        raise RecipeError(
            f"there is no tag {name!r}, but there is {near!r}; correct the name, or give the tag "
            "or the stage another"
        )
    near = misspelt(tag, missing.tags)
    if near is not None:
        raise RecipeError(
            f"there is no tag {tag!r}, but there is {near!r}; correct the name, or, if it is "
            "correct, create the tag with `rarefy artifact tag` (`push --tag` for a remote)"
        )


def skipped(loaded: LoadedRecipe, absent: Sequence[str]) -> list[str]:
    """Return a sentence for each tag that does not exist yet, with the budgets against it."""
    sentences = []
    for name in absent:
        budgets = []
        for budget in loaded.recipe.budgets:
            if budget.against == name:
                budgets.append(f"{budget.metric} {budget.form}")
        sentences.append(
            f"first release: the tag {name!r} does not exist yet, so these budgets are skipped: "
            f"{', '.join(budgets)}"
        )
    return sentences


def doubts(loaded: LoadedRecipe, absent: Sequence[str]) -> list[str]:
    """Return a sentence for each of these tags that is rather the wrong name of a stage."""
    forms = {}
    for budget in loaded.recipe.budgets:
        if budget.form in OF_STAGES:
            forms[budget.against] = budget.form
    sentences = []
    for name in absent:
        if name in forms:
            sentences.append(
                f"{name!r} is neither a tag yet nor one of the stages {', '.join(loaded.ids)}, "
                f"with which {forms[name]} usually compares; if one is meant, this budget checks "
                "nothing"
            )
    return sentences


def _pulled(store: Store, name: str) -> Artifact:
    from rarefy.pipeline.store.remote import artifacts as remote

    url, reference = remote.split(name)
    if "://" not in url and not url.startswith("/"):
        raise RecipeError(f"{url!r} is neither a URL nor an absolute path")
    return remote.pull(store, url, reference)


def answers_of(name: str, directory: Path, task: Task) -> tuple[str, list[str]]:
    """Return the name of a model's task and the labels that it predicts.

    A checkpoint does not say its task, so its head must be one of ``task``. Raises ModelError if
    the model does not say what it predicts.
    """
    from rarefy.pipeline.model.runtime import bundle_files

    try:
        if (directory / bundle_files.SIGNATURE).is_file():
            by_index = bundle_files.read(directory, bundle_files.CONFIG)["id2label"]
            signature = bundle_files.read(directory, bundle_files.SIGNATURE)
            ordered = [by_index[key] for key in sorted(by_index, key=int)]
            return str(signature["task"]), ordered
        labels = task.head.labels_of(safe_loading.read_config(directory / "config.json"))
    except ModelError:
        labels = None
    if labels is None:
        raise ModelError(f"{name}: config.json does not name the labels")
    return task.name, labels


def check(name: str, directory: Path, task: Task) -> None:
    """Raise ModelError if a model is not for this task and its labels, in this order."""
    check_alike(name, answers_of(name, directory, task), task)


def check_alike(name: str, other: tuple[str, list[str]], task: Task) -> None:
    """Raise ModelError if a task's name and its labels are not those of ``task``."""
    if other[0] != task.name:
        raise ModelError(
            f"{name}: is a model for {other[0]}, but the other side is for {task.name}, so they "
            "cannot be compared"
        )
    if other[1] != list(task.labels):
        raise ModelError(
            f"{name}: predicts the labels {', '.join(other[1])}, but the other side has "
            f"{', '.join(task.labels)}, so they cannot be compared"
        )


def with_baseline(loaded: LoadedRecipe, tag: str) -> LoadedRecipe:
    """Point every budget against a tag to this one; if there is none, add the usual three.

    Budgets against a tag ``anchor`` stay as they are. Raises RecipeError if ``tag`` is a stage of
    the recipe or not a valid tag name, and if a tag of the recipe is rather a mistyped stage, with
    which nothing would be compared then.
    """
    if credentials.found_in(tag):
        raise RecipeError(f"--baseline: {credentials.REFUSED}")
    ids = loaded.ids
    problem = None
    if tag in ids:
        problem = "is a stage of the recipe"
    elif REMOTE_TAG not in tag and not NAME.fullmatch(tag):
        problem = "is not a valid tag name"
    if problem:
        raise RecipeError(f"baseline {tag!r} {problem}; give a tag, or URL#tag for a remote store")
    moving = [name for name in loaded.tags if name.rpartition(REMOTE_TAG)[2] != ANCHOR]
    budgets = []
    for position, budget in enumerate(loaded.recipe.budgets):
        name = budget.against
        if name in moving:
            near = misspelt(name, ids, NEAR_STAGE)
            if near:
                raise loaded.where.say(
                    ("budgets", position, "against"),
                    f"{name!r} is not a stage of this recipe, but there is {near!r}; correct the "
                    f"name, or write the tag {tag!r} itself",
                )
            budget = budget.model_copy(update={"against": tag})
        budgets.append(budget)
    if not moving:
        main = {"metric": _main_score(loaded.recipe)}
        budgets += [Budget(against=tag, **main | usual) for usual in USUAL]
    recipe = loaded.recipe.model_copy(update={"budgets": tuple(budgets)})
    return replace(loaded, recipe=recipe, baseline=tag)


def _main_score(recipe: Recipe) -> str:
    """Return the name of the task's main score; without labels, agreement with the own model."""
    task = unlabelled.for_data(tasks.find(recipe.task), recipe.data)
    scores = task.scorer.score_names(recipe.data)
    return next(iter(scores), "accuracy")
