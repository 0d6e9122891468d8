"""The file of a sweep: its format, and the checks before anything runs."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from rarefy.pipeline import tasks
from rarefy.pipeline.data.development_split import NAME
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.recipe import yaml_file
from rarefy.pipeline.recipe.recipe import LoadedRecipe
from rarefy.pipeline.recipe.yaml_file import Places
from rarefy.pipeline.run.scoring import SCORED
from rarefy.pipeline.sweep import fields
from rarefy.pipeline.sweep.questions import (
    DEFAULT_QUESTIONS,
    GOALS,
    Goal,
    Question,
    of_kind,
)
from rarefy.pipeline.tasks import unlabelled
from rarefy.pipeline.terms import credentials, recipe_parts
from rarefy.pipeline.terms.digests import value_sha256
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.recipe_parts import Name, Part, Quantity
from rarefy.pipeline.terms.wording import hint, required

MOST: Final = 1000
"""Branches of a grid."""


class Range(Part):
    """Numbers that a search may try: whole ones if ``low`` and ``high`` are whole."""

    low: int | float
    high: int | float
    log: bool = Field(
        default=False,
        description="Whether to sample on a log scale: between 1 and 10 as often as between 10 "
        "and 100",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low must be below high (found {self.low} and {self.high})")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range must be above 0")
        return self

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


def _as_points(value: Any) -> Any:
    return recipe_parts.count_points(value) if isinstance(value, str) else value


class Stop(Part):
    """When a branch is hopeless: by its score on the development split after one of its steps."""

    after: str
    points: Annotated[float, BeforeValidator(_as_points), Field(gt=0, lt=100)] | None = Field(
        default=None,
        description="Margin below the best branch at the same step, in percentage points",
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
        margin = required(self.points / 100, "points")
        return f"is within {margin} of the best"

    def least(self, best: float) -> float:
        """Return the score that a branch needs. ``best``: the best at the same step."""
        if self.min_accuracy is not None:
            return self.min_accuracy
        return best - (self.points or 0.0) / 100


Choices = Annotated[tuple[Any, ...], Field(min_length=1)] | Range


class SweepFile(Part):
    """A recipe, which of its fields vary, and what is asked of the branches."""

    name: Name
    recipe: str = Field(description="Path of the recipe, relative to the sweep file")
    vary: dict[str, Choices] = Field(min_length=1)
    search: Search | None = None
    stop: tuple[Stop, ...] = ()
    ask: Annotated[tuple[Question, ...], Field(min_length=1)] = DEFAULT_QUESTIONS

    def named(self, question: Question) -> str:
        """Return the name of the recipe that answers a question; its run and history have it."""
        return f"{self.name}-{question.name}"

    def values(self, path: str) -> tuple[Any, ...]:
        """Return the values of a field, none of a range."""
        choices = self.vary[path]
        if isinstance(choices, Range):
            return ()
        return choices

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
        values = self.file.model_dump(mode="json")
        vary = list(values["vary"].items())
        recipe = self.values | {"budgets": None, "name": None}
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
    document = yaml_file.read(path)
    where = Places(str(path), document.lines)
    if credentials.found_in(document.text):
        raise RecipeError(f"{path}: {credentials.REFUSED}")
    try:
        file = SweepFile.model_validate(document.values)
    except ValidationError as error:
        raise where.error(error, SweepFile, ()) from None
    source = path.parent / file.recipe
    sweep = Sweep(path, file, where, recipes.load(source), yaml_file.read(source).values)
    _check_rows(sweep)
    for key, choices in file.vary.items():
        problem = fields.problem(sweep.recipe, key)
        if isinstance(choices, Range) and file.search is None:
            problem = "a range needs 'search'; or list the values to try"
        if problem is not None:
            raise where.say(("vary", key), problem)
    if file.search is None and file.combinations > MOST:
        message = f"{file.combinations} combinations; the limit is {MOST}: use 'search'"
        raise where.say(("vary",), message)
    _check_stops(sweep)
    return sweep


def _check_rows(sweep: Sweep) -> None:
    """Raise RecipeError if there are no development rows to choose by."""
    recipe = sweep.recipe.recipe
    task = unlabelled.for_data(tasks.find(recipe.task), recipe.data)
    has_scores = not task.unlabelled or NAME in task.reader.self_labelled
    if recipe.data.corpus or not has_scores:
        raise sweep.where.say(
            ("recipe",),
            "this recipe has no development rows to rank its branches by: a search and texts "
            "without scores have no labels",
        )


def _check_stops(sweep: Sweep) -> None:
    """Raise RecipeError if a rule names a step that has no score in a branch."""
    ids = fields.steps_of_branch(sweep.recipe)
    steps = [step for step in sweep.recipe.steps if step.id in ids]
    scored = [step.id for step in steps if step.stage.produces in (None, *SCORED)]
    for position, stop in enumerate(sweep.file.stop):
        if stop.after not in scored:
            message = f"{stop.after!r} is no step of branches with a score"
            place = ("stop", position, "after")
            raise sweep.where.say(place, f"{message}{hint(stop.after, scored)}")
