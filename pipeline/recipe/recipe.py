"""The recipe: its format, and the checks before anything runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from rarefy.pipeline import tasks
from rarefy.pipeline.recipe import yaml_file
from rarefy.pipeline.recipe.removed import advise_instead
from rarefy.pipeline.recipe.yaml_file import Places, T
from rarefy.pipeline.sources import references as sources
from rarefy.pipeline.stage import Stage, discovery
from rarefy.pipeline.tasks.unlabelled import AGREEMENT
from rarefy.pipeline.terms import credentials, recipe_parts
from rarefy.pipeline.terms.budget import REGRESSIONS, Budget, assumed_units
from rarefy.pipeline.terms.errors import RarefyError, RecipeError
from rarefy.pipeline.terms.metrics import is_own
from rarefy.pipeline.terms.recipe_parts import NAME, REMOTE_TAG, RESERVED, Data, Name, Part, Target
from rarefy.pipeline.terms.wording import hint, nearest

MODEL = recipe_parts.MODEL
"""The id of the model that the recipe starts from."""
BESIDE = ("as", "from", "seed")
"""The keys that an entry of ``stages`` may have beside its stage."""
SEEDS = 2**32


@dataclass(frozen=True)
class Step:
    """A stage of a recipe with its id, its parameters, and the id of its input.

    ``seed``: its own, or None if it draws from the recipe's.
    """

    id: str
    stage: Stage
    input: str
    position: int
    seed: int | None = None


class Recipe(Part):
    """A model, data, a chain of stages, and the budgets that the result must meet."""

    name: Name = Field(
        description="Name of the recipe and its runs: lowercase letters, digits, `.`, `-` and `_`"
    )
    model: str = Field(
        description="Pretrained model: a folder, a model on the Hub (owner/name or "
        "hub:owner/name@revision), a folder at https:// or s3://, package:import_name/sub/dir, or "
        "tag:NAME for one in the store"
    )
    task: str = Field(
        default="text-classification",
        description="Task, which says what a row is and what the model predicts for it",
    )
    data: Data
    stages: tuple[dict[str, Any] | str, ...] = Field(min_length=1)
    targets: tuple[Target, ...] = (Target(),)
    budgets: tuple[Budget, ...] = ()
    seed: int = Field(default=0, ge=0, lt=SEEDS, description="Seed of all random numbers")
    allow_pickle: bool = Field(
        default=False, description="Whether to also load pickled weights, with weights_only"
    )

    @field_validator("budgets", mode="before")
    @classmethod
    def _listed(cls, value: Any, info: ValidationInfo) -> Any:
        """Expand short forms of budgets.

        A mapping becomes a list of one budget. ``max_regression`` without a metric becomes one
        budget for each metric in ``REGRESSIONS``, with the task's main score for accuracy.
        """
        listed = [value] if isinstance(value, dict) else value
        if not isinstance(listed, list):
            return value
        budgets: list[Any] = []
        for entry in listed:
            if isinstance(entry, dict) and "max_regression" in entry and "metric" not in entry:
                budgets += _regressions(entry, info.data)
            else:
                budgets.append(entry)
        return budgets

    @field_validator("targets")
    @classmethod
    def _distinct(cls, value: tuple[Target, ...]) -> tuple[Target, ...]:
        names = [target.name for target in value]
        if not value or len(set(names)) != len(names):
            raise ValueError("give at least one target, each with a different name")
        return value


def _regressions(budget: dict[str, Any], recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the budgets that ``max_regression`` without a metric stands for.

    Of rows without labels the main score is the agreement with the model's own answers, of which
    that has all: its regression is a drop. ``recipe``: the fields that are known to be right.
    """
    main, main_budget = REGRESSIONS[0], budget
    if "task" in recipe and "data" in recipe:
        with suppress(RarefyError):  # an unknown task or column is an error of its own
            task, columns = tasks.find(recipe["task"]), recipe["data"]
            main = next(iter(task.scorer.score_names(columns)), main)
            if task.reader.lacks_labels(columns):
                main = AGREEMENT
                main_budget = dict(budget)
                main_budget["max_drop"] = _of_all(main_budget.pop("max_regression"))
    others = [{"metric": name, **budget} for name in REGRESSIONS[1:]]
    return [{"metric": main, **main_budget}, *others]


def _of_all(share: Any) -> Any:
    """Return a share of 1 as the difference that it is; what is no share is an error later."""
    with suppress(ValueError):
        return recipe_parts.parse_quantity(share)
    return share


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe with its text and steps; its paths are relative to ``base``.

    ``path`` is the recipe's file, or None if it was built in Python. ``baseline``: the tag that
    budgets were pointed at, if one was given beside the recipe. ``notes``: what the recipe leaves
    open, and how it is read. ``times_warn``: whether budgets on times were made warnings.
    """

    path: Path | None
    base: Path
    text: str
    recipe: Recipe
    steps: tuple[Step, ...]
    where: Places
    baseline: str | None = None
    notes: tuple[str, ...] = ()
    times_warn: bool = False

    @property
    def ids(self) -> list[str]:
        """The ids of all steps in order, starting with the import of the model."""
        return [MODEL, *(step.id for step in self.steps)]

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that budgets compare with, without duplicates."""
        references = dict.fromkeys(budget.against for budget in self.recipe.budgets)
        ids = self.ids
        return tuple(name for name in references if name and name not in ids)

    @property
    def portable_text(self) -> str:
        """The text as it is recorded, without absolute paths of this machine."""
        text = self.text
        for path in sorted(strings(self.recipe.model_dump(mode="json")), key=len, reverse=True):
            recorded = sources.portable_values(path, self.base)
            if recorded != path:
                text = recorded.join(re.split(rf"{re.escape(path)}(?![\w./-])", text))
        return credentials.redact(text)  # a comment may hold anything

    @property
    def budget_lines(self) -> list[int]:
        """The line of each budget in the file; several budgets share the line of a short form."""
        lines = self.where.lines
        places = self.where.budgets(len(self.recipe.budgets))
        return [lines.get(at, lines.get(at[:1], 1)) for at in places]

    def step(self, identifier: str) -> Step:
        """Return a step by its id. Raises StopIteration if there is none."""
        return next(step for step in self.steps if step.id == identifier)

    def ancestors(self, step: Step) -> list[str]:
        """Return the ids of all steps before this one on its chain, in order."""
        chain: list[str] = []
        current = step.input
        while current != MODEL:
            chain.append(current)
            current = self.step(current).input
        return chain[::-1]

    def call(self, hook: Callable[..., T], *arguments: Any, check: bool = False) -> T:
        """Call a method of a stage and return its result; see ``Places.call``."""
        stage = getattr(hook, "__self__", None)
        step = next((step for step in self.steps if step.stage is stage), None)
        if step is None:  # of the import, which is ours
            return hook(*arguments)
        at = ("stages", step.position, step.stage.name)
        return self.where.call(at, hook, *arguments, check=check)

    def error(self, step: Step, message: str) -> RecipeError:
        """Return an error about a step, with the step's file and line."""
        return self.where.say(("stages", step.position, step.stage.name), message)


def load(path: Path) -> LoadedRecipe:
    """Read and check a recipe. Raises RecipeError with file, line, key and the expected value."""
    values, text, where = _read(path)
    return check(values, text, path.resolve().parent, where, path)


def check_form(path: Path) -> list[str]:
    """Check a recipe without running code of it; return what of its own was not imported.

    Keys and values are checked, and the parameters of installed stages. If the recipe has no stages
    and metrics of its own (``module:name``), ``load`` runs no code of it either. Raises what
    ``load`` raises.
    """
    values, _, where = _read(path)
    recipe = _validated(values, where)
    own_stages = []
    for position, entry in enumerate(recipe.stages):
        at: yaml_file.Location = ("stages", position)
        name, parameters, _ = _entry(entry, at, where)
        if ":" in str(name) and name not in discovery.installed():
            own_stages.append(str(name))
        else:
            _stage(name, parameters, path.parent, (*at, name), where)
    return own_stages + [budget.metric for budget in recipe.budgets if is_own(budget.metric)]


def find_errors(path: Path) -> list[RecipeError]:
    """Return the errors of a recipe's form that do not follow from one another.

    Those of keys and values, and of the parameters of each stage; if there are none, the first of
    what ``load`` raises.
    """
    try:
        values, _, where = _read(path)
        _check_secrets(values, (), where)
    except RecipeError as error:
        return [error]
    errors: list[RecipeError] = []
    try:
        Recipe.model_validate(values)
    except ValidationError as error:
        first = where.error(error, Recipe, ())
        errors += [first, *first.others]
    entries = values.get("stages")
    for position, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, dict | str):
            errors += _errors_of_entry(entry, path.resolve().parent, ("stages", position), where)
    if not errors:
        try:
            load(path)
        except RecipeError as error:
            errors.append(error)
    return errors


def _errors_of_entry(
    entry: dict[str, Any] | str, folder: Path, at: yaml_file.Location, where: Places
) -> list[RecipeError]:
    """Return the errors of a stage's name and parameters."""
    try:
        name, parameters, _ = _entry(entry, at, where)
        _stage(name, parameters, folder, (*at, name), where)
    except RecipeError as error:
        return [error, *error.others]
    return []


def _read(path: Path) -> tuple[dict[str, Any], str, Places]:
    document = yaml_file.read(path)
    if not isinstance(document.values, dict):
        raise RecipeError(f"{path}:1: a recipe must be a mapping with name, model, data and stages")
    if "vary" in document.values and "stages" not in document.values:
        raise RecipeError(
            f"{path}: this is a sweep, not a recipe; `rarefy sweep --dry-run {path}` checks it"
        )
    return document.values, document.text, Places(str(path), document.lines)


def check(
    values: dict[str, Any], text: str, base: Path, where: Places, path: Path | None
) -> LoadedRecipe:
    """Check a recipe's plain values. Raises RecipeError at its place, as ``where`` words it."""
    recipe = _validated(values, where)
    steps = _steps(recipe, base, where)
    _check_budgets(recipe, steps, where)
    recipe = _with_own_metrics(recipe, base, where)
    budgets = values.get("budgets") or ()
    if isinstance(budgets, dict):
        budgets = [budgets]
    notes = assumed_units(budgets)
    return LoadedRecipe(path, base, text, recipe, steps, where, notes=tuple(notes))


def _validated(values: dict[str, Any], where: Places) -> Recipe:
    _check_secrets(values, (), where)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise where.error(error, Recipe, ()) from None


def _check_secrets(value: Any, at: yaml_file.Location, where: Places) -> None:
    """Raise RecipeError at the first URL with credentials, before anything records or says it."""
    if isinstance(value, str) and credentials.found_in(value):
        raise where.say(at, credentials.REFUSED)
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, item in items:
        _check_secrets(key, at, where)
        _check_secrets(item, (*at, key), where)


def _steps(recipe: Recipe, folder: Path, where: Places) -> tuple[Step, ...]:
    """Return the checked steps of a recipe. Raises RecipeError at the place of the first fault."""
    steps: list[Step] = []
    for position, entry in enumerate(recipe.stages):
        at: yaml_file.Location = ("stages", position)
        name, parameters, (identifier, source, seed) = _entry(entry, at, where)
        stage_at = (*at, name)
        stage = _stage(name, parameters, folder, stage_at, where)
        earlier = [step.id for step in steps]
        if identifier is None:
            identifier = _next_id(stage.name, earlier)
            _check_id(identifier, earlier, at, stage_at, where)
        else:
            _check_id(identifier, earlier, at, (*at, "as"), where)
        if seed is not None and not _is_seed(seed):
            message = f"expected a whole number from 0 to {SEEDS - 1}, found {seed!r}"
            raise where.say((*at, "seed"), message)
        sources = (*earlier, MODEL)
        if source is None:
            source = _end(steps)
        elif source not in sources:
            message = f"{source!r} is not an earlier stage{hint(source, earlier)}"
            raise where.say((*at, "from"), message)
        references = where.call(stage_at, stage.references)
        for role, reference in references.items():
            if reference not in sources:
                message = f"{role}: {reference!r} is not an earlier stage{hint(reference, earlier)}"
                raise where.say(stage_at, message)
        steps.append(Step(identifier, stage, source, position, seed))
    return tuple(steps)


def _check_id(
    identifier: Any,
    earlier: list[str],
    at: yaml_file.Location,
    name_at: yaml_file.Location,
    where: Places,
) -> None:
    """Raise RecipeError if a step cannot have this id.

    Args:
        identifier: the id.
        earlier: the ids of the steps before it.
        at: the place of the step's entry.
        name_at: the place of what the id was taken from.
        where: words errors.
    """
    if not isinstance(identifier, str) or not NAME.fullmatch(identifier):
        message = f"{identifier!r} is not a valid name; names match {NAME.pattern}"
        raise where.say(name_at, message)
    if identifier in RESERVED:
        message = f"the id {identifier!r} is reserved for {RESERVED[identifier]}"
        raise where.say((*at, "as"), message)
    if identifier == MODEL or identifier in earlier:
        raise where.say((*at, "as"), f"the id {identifier!r} is already taken")


def _is_seed(value: Any) -> bool:
    return type(value) is int and 0 <= value < SEEDS


def _end(steps: list[Step]) -> str:
    """Return the id of what the next stage goes on from: the last step's output, or its input."""
    if not steps:
        return MODEL
    last = steps[-1]
    return last.input if last.stage.policy.aside else last.id


def _entry(
    entry: dict[str, Any] | str, at: yaml_file.Location, where: Places
) -> tuple[Any, Any, list[Any]]:
    """Return a stage's name and parameters, and the values of ``BESIDE``, or None."""
    stages = {entry: None} if isinstance(entry, str) else dict(entry)
    beside = [stages.pop(key, None) for key in BESIDE]
    if len(stages) != 1:
        names = ", ".join(map(str, stages)) or "none"
        others = ", ".join(map(repr, BESIDE))
        raise where.say(at, f"expected one stage, optionally with {others}; found {names}")
    [(name, parameters)] = stages.items()
    return name, parameters, beside


def _stage(
    name: Any, parameters: Any, folder: Path, at: yaml_file.Location, where: Places
) -> Stage:
    advice = advise_instead(str(name))
    if advice and name not in discovery.installed():
        raise where.say(at, advice)
    try:
        kind = discovery.find(str(name), folder)
    except RecipeError as error:
        raise where.say(at, str(error)) from None
    if not isinstance(parameters, dict | None):
        raise where.say(at, f"the parameters must be a mapping, found {parameters!r}")
    try:
        return kind.model_validate(parameters or {})
    except ValidationError as error:
        raise where.error(error, kind, at) from None


def strings(value: Any) -> set[str]:
    """Return all strings in nested plain values."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return set().union(*map(strings, value))
    return {value} if isinstance(value, str) else set()


def _next_id(name: str, taken: list[str]) -> str:
    """Return a stage's name, with ``-2``, ``-3``, … appended if the id is already in use."""
    identifier, number = name, 1
    while identifier in taken:
        number += 1
        identifier = f"{name}-{number}"
    return identifier


def _check_budgets(recipe: Recipe, steps: tuple[Step, ...], where: Places) -> None:
    ids = [MODEL, *(step.id for step in steps)]
    targets = [target.name for target in recipe.targets]
    for position, budget in enumerate(recipe.budgets):
        at: yaml_file.Location = ("budgets", position)
        name = budget.against
        if name and name not in ids and not _may_be_tag(name, ids):
            message = f"{name!r} is not a stage of this recipe{hint(name, ids)}"
            raise where.say((*at, "against"), message)
        if budget.target and budget.target not in targets:
            message = f"{budget.target!r} is not a target{hint(budget.target, targets)}"
            raise where.say((*at, "target"), message)


def _with_own_metrics(recipe: Recipe, folder: Path, where: Places) -> Recipe:
    """Return the recipe whose budgets have the functions that their metrics name."""
    budgets = []
    for position, budget in enumerate(recipe.budgets):
        if is_own(budget.metric):
            from rarefy.pipeline.stage import own_metrics

            try:
                budget = budget.with_own(own_metrics.find(budget.metric, folder))
            except RecipeError as error:
                raise where.say(("budgets", position, "metric"), str(error)) from error
        budgets.append(budget)
    return recipe.model_copy(update={"budgets": tuple(budgets)})


def _may_be_tag(name: str, ids: list[str]) -> bool:
    """Return whether a name that is no step's may be a tag, which only a store knows.

    A name very similar to a step's is a typing error.
    """
    if nearest(name, ids, cutoff=0.85) is not None:
        return False
    return REMOTE_TAG in name or NAME.fullmatch(name) is not None
