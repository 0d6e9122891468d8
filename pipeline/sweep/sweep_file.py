"""The file of a sweep: its format, and the checks before anything runs."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice, product
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from pipeline.recipe import recipe as recipes
from pipeline.recipe import yaml_source
from pipeline.recipe.places import Places
from pipeline.recipe.recipe import LoadedRecipe
from pipeline.run.scoring import SCORED
from pipeline.stage import tasks
from pipeline.stage.development import NAME
from pipeline.stage.tasks import unlabelled
from pipeline.store.artifact import Kind
from pipeline.sweep import fields
from pipeline.sweep.questions import DEFAULT_QUESTIONS, GOALS, Goal, Points, Question, of_kind
from pipeline.terms import credentials
from pipeline.terms.digests import value_sha256
from pipeline.terms.errors import RecipeError
from pipeline.terms.naming import hint
from pipeline.terms.quantity import Quantity
from pipeline.terms.vocabulary import NAME as RECIPE_NAME
from pipeline.terms.vocabulary import Name, Part
from pipeline.terms.wording import points

MOST: Final = 1000
"""Branches of a grid."""
TRIED: Final = 200
"""Combinations with which a value is tried before it counts as wrong."""


class Range(Part):
    """Numbers that a search may try: whole ones if ``low`` and ``high`` are whole."""

    low: int | float
    high: int | float
    log: bool = Field(default=False, description="as likely between 1 and 10 as between 10 and 100")

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low must be below high (found {self.low} and {self.high})")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range must be above 0")
        return self

    @property
    def ends(self) -> tuple[int | float, int | float]:
        return self.low, self.high

    @property
    def whole(self) -> bool:
        """Whether it has whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def __len__(self) -> int:
        """Return how many numbers it has: too many to count if they are not whole."""
        return int(self.high - self.low) + 1 if self.whole else sys.maxsize


class Search(Part):
    """A search for the best branches, instead of all combinations."""

    trials: int = Field(ge=1, le=10_000)
    goals: Annotated[tuple[Goal, ...], Field(min_length=1)] = GOALS
    seed: int = Field(default=0, ge=0, lt=2**32)


class Stop(Part):
    """When a branch is hopeless: by its score on the development split after one of its steps."""

    after: str
    points: Points | None = Field(
        default=None, description="so far below the best branch at the same step"
    )
    min_accuracy: Annotated[Quantity, Field(le=1), of_kind("a percentage")] | None = None

    @model_validator(mode="after")
    def _one(self) -> Stop:
        if (self.points is None) == (self.min_accuracy is None):
            raise ValueError("give either points or min_accuracy")
        return self

    @property
    def words(self) -> str:
        """What ends a branch: ``is asked for``, or ``is within 5 points of the best``."""
        if self.points is None:
            return "is asked for"
        return f"is within {points(self.points)} of the best"


def _choices(value: Any) -> Any:
    """Say plainly what is wrong with choices; what pydantic says is about the union of types."""
    if isinstance(value, dict):
        for key in value:
            if key not in Range.model_fields:
                raise ValueError(f"unknown key {key!r}{hint(key, Range.model_fields)}")
    elif not isinstance(value, list | tuple | Range):
        raise ValueError("give a list of values, or {low: …, high: …} for a search")
    elif value in ([], ()):
        raise ValueError("give at least one value")
    return value


Choices = Annotated[Range | tuple[Any, ...], BeforeValidator(_choices)]


class SweepFile(Part):
    """A recipe, which of its fields vary, and what is asked of the branches."""

    name: Name
    recipe: str = Field(description="the recipe's file, relative to the sweep's")
    vary: dict[str, Choices] = Field(min_length=1)
    search: Search | None = None
    stop: tuple[Stop, ...] = ()
    ask: Annotated[tuple[Question, ...], Field(min_length=1)] = DEFAULT_QUESTIONS

    @field_validator("ask")
    @classmethod
    def _distinct(cls, value: tuple[Question, ...]) -> tuple[Question, ...]:
        names = [question.name for question in value]
        if len(set(names)) != len(names):
            raise ValueError("the same question stands there twice")
        return value

    def named(self, question: Question) -> str:
        """Return the name of the recipe that answers a question; its run and history have it."""
        return f"{self.name}-{question.name}"

    def values(self, path: str) -> tuple[Any, ...]:
        """Return the values of a field, of a range its ends."""
        choices = self.vary[path]
        return choices.ends if isinstance(choices, Range) else choices

    @property
    def combinations(self) -> int:
        """How many branches there may be."""
        return math.prod(map(len, self.vary.values()))


@dataclass(frozen=True)
class Sweep:
    """A sweep's file with its recipe. ``values`` are the recipe's, as its file has them."""

    path: Path
    file: SweepFile
    where: Places
    recipe: LoadedRecipe
    values: dict[str, Any]

    @cached_property
    def digest(self) -> str:
        """The sha256 of what the branches and their names depend on.

        The order of ``vary`` is in the names. Budgets and the recipe's name are the winner's alone.
        """
        values = self.file.model_dump(mode="json", include={"name", "vary"})
        vary = list(values["vary"].items())
        recipe = dict(self.values)
        recipe.pop("budgets", None)
        recipe.pop("name", None)
        return value_sha256([values["name"], vary, recipe])


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a sweep's file, for editors."""
    schema = SweepFile.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "rarefy sweep"
    return schema


def load(path: Path) -> Sweep:
    """Read and check a sweep, its recipe, and every value that varies.

    Raises RecipeError with file, line and key.
    """
    document = yaml_source.read(path)
    if not isinstance(document.values, dict):
        raise RecipeError(f"{path}:1: a sweep must be a mapping with name, recipe and vary")
    where = Places(str(path), document.lines)
    if credentials.found_in(document.text):
        raise RecipeError(f"{path}: {credentials.REFUSED}")
    try:
        file = SweepFile.model_validate(document.values)
    except ValidationError as error:
        raise where.error(error, SweepFile, ()) from None
    source = path.parent / file.recipe
    sweep = Sweep(path, file, where, recipes.load(source), yaml_source.read(source).values)
    _check_rows(sweep)
    _check_questions(sweep)
    reports = _reports(sweep.recipe)
    for key in file.vary:
        _check_field(sweep, key, reports)
        _check_values(sweep, key)
    if file.search is None and file.combinations > MOST:
        message = f"{file.combinations} combinations; the limit is {MOST}: use 'search'"
        raise where.say(("vary",), message)
    _check_stops(sweep, reports)
    return sweep


def _check_rows(sweep: Sweep) -> None:
    """Raise RecipeError if there are no development rows to choose by."""
    recipe = sweep.recipe.recipe
    task = unlabelled.of_data(tasks.find(recipe.task), recipe.data)
    has_scores = not task.unlabelled or NAME in task.answered
    if recipe.data.corpus or not has_scores:
        raise sweep.where.say(
            ("recipe",),
            "this recipe has no development rows to rank its branches by: of a search, or of texts "
            "without scores, they have no right answers",
        )


def _check_questions(sweep: Sweep) -> None:
    """Raise RecipeError if the recipe of an answer cannot have its name."""
    for position, question in enumerate(sweep.file.ask):
        name = sweep.file.named(question)
        if not RECIPE_NAME.fullmatch(name):
            message = f"the recipe of its answer would be named {name!r}, which is too long"
            raise sweep.where.say(("ask", position), message)


def _check_field(sweep: Sweep, key: str, reports: Collection[str]) -> None:
    """Raise RecipeError if a field cannot vary. ``reports``: the steps that only measure."""
    place = ("vary", key)
    try:
        fields.check(sweep.recipe, key)
    except RecipeError as error:
        raise sweep.where.say(place, str(error)) from None
    step = fields.split(key, sweep.recipe.ids)[0]
    if step in reports:
        raise sweep.where.say(place, f"branches do not run {step!r}: winners do")
    if isinstance(sweep.file.vary[key], Range) and sweep.file.search is None:
        raise sweep.where.say(place, "a range needs 'search'; or list the values to try")


def _check_values(sweep: Sweep, key: str) -> None:
    """Raise RecipeError if a value of a field cannot be."""
    values = sweep.file.values(key)
    for position, value in enumerate(values):
        problem = _clash(sweep, key, value) or _misfit(sweep, key, value)
        if _is_among(value, values[:position]):
            problem = "stands there twice"
        if problem is not None:
            raise sweep.where.say(("vary", key, position), f"{value!r} {problem}")


def _is_among(value: Any, others: Collection[Any]) -> bool:
    """Return whether a value equals one of others, as 1 and 1.0 do, but not 1 and true."""
    for other in others:
        if value == other and isinstance(value, bool) == isinstance(other, bool):
            return True
    return False


def _clash(sweep: Sweep, key: str, value: Any) -> str | None:
    """Return which field of a value another path varies, None if none does."""
    names = value if isinstance(value, dict) else ()
    for name in names:
        path = f"{key}.{name}"
        if path in sweep.file.vary:
            return f"sets {name!r}, which {path} varies"
    return None


def _misfit(sweep: Sweep, key: str, value: Any) -> str | None:
    """Return why a value fits neither alone nor with any of the first others; None if it does.

    Some values go together only: no heads to remove is an error, but not beside neurons.
    """
    others = [path for path in sweep.file.vary if path != key]
    combinations = product(*[sweep.file.values(path) for path in others])
    first: RecipeError | None = None
    for combination in chain([()], islice(combinations, TRIED)):
        changes = dict(zip(others, combination))  # noqa: B905 (alone, there are no others)
        try:
            fields.with_values(sweep.recipe, sweep.values, changes | {key: value})
        except RecipeError as error:
            first = first or error
        else:
            return None
    return f"does not fit the recipe: {first}"


def _check_stops(sweep: Sweep, reports: Collection[str]) -> None:
    """Raise RecipeError if a rule names a step that has no score in a branch."""
    scored = []
    for step in sweep.recipe.steps:
        if step.id not in reports and step.stage.produces in (None, *SCORED):
            scored.append(step.id)
    for position, stop in enumerate(sweep.file.stop):
        if stop.after not in scored:
            message = f"{stop.after!r} is no step of branches with a score"
            place = ("stop", position, "after")
            raise sweep.where.say(place, f"{message}{hint(stop.after, scored)}")


def _reports(recipe: LoadedRecipe) -> list[str]:
    """Return the ids of the steps that only measure: no other step reads what they write."""
    inputs = set()
    for step in recipe.steps:
        inputs.update([step.input, *step.stage.references().values()])
    reports = [step.id for step in recipe.steps if step.stage.produces is Kind.REPORT]
    return [step for step in reports if step not in inputs]
