"""The file of a sweep: its format, and the checks before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product
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


def _choices(value: Any) -> Any:
    """Say plainly what is wrong with choices; what pydantic says is about the union of types."""
    if isinstance(value, dict):
        unknown = next((key for key in value if key not in Range.model_fields), None)
        if unknown is not None:
            raise ValueError(f"unknown key {unknown!r}{hint(unknown, Range.model_fields)}")
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

    @property
    def combinations(self) -> int:
        """The number of branches of a grid."""
        number = 1
        for given in self.vary.values():
            number *= 1 if isinstance(given, Range) else len(given)
        return number


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
        """The sha256 of the sweep and its recipe: branches of another one are not its own."""
        asked = self.file.model_dump(mode="json", include={"name", "vary"})
        judged = {"budgets", "name"}  # of the winner alone
        return value_sha256([asked, {k: v for k, v in self.values.items() if k not in judged}])


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
    loaded, values = recipes.load(source), yaml_source.read(source).values
    sweep = Sweep(path, file, where, loaded, values)
    _check(sweep)
    return sweep


def _misfit(sweep: Sweep, key: str, value: Any) -> RecipeError | None:
    """Return why a value fits neither alone nor with any of the first others; None if it does.

    Some values go together only: no heads to remove is an error, but not beside neurons.
    """
    others = [
        [(name, each) for each in given]
        for name, given in sweep.file.vary.items()
        if name != key and not isinstance(given, Range)
    ]
    first: RecipeError | None = None
    for beside in ((), *islice(product(*others), TRIED)):
        try:
            fields.with_values(sweep.recipe, sweep.values, {**dict(beside), key: value})
        except RecipeError as error:
            first = first or error
        else:
            return None
    return first


def _check(sweep: Sweep) -> None:
    """Raise RecipeError if a field, one of its values, a stop or an answer cannot be."""
    _check_rows(sweep)
    for position, question in enumerate(sweep.file.ask):
        name = sweep.file.named(question)
        if not RECIPE_NAME.fullmatch(name):
            message = f"the recipe of its answer would be named {name!r}, which is too long"
            raise sweep.where.say(("ask", position), message)
    reports = _reports(sweep.recipe)
    for key, choices in sweep.file.vary.items():
        at: yaml_source.Location = ("vary", key)
        try:
            fields.check(sweep.recipe, key)
        except RecipeError as error:
            raise sweep.where.say(at, str(error)) from None
        first = fields.split(key, sweep.recipe.ids)[0]
        if first in reports:
            raise sweep.where.say(at, f"branches do not run {first!r}: winners do")
        if isinstance(choices, Range) and sweep.file.search is None:
            raise sweep.where.say(at, "a range needs 'search'; or list the values to try")
        tried = choices.ends if isinstance(choices, Range) else choices
        for position, value in enumerate(tried):
            here = at if isinstance(choices, Range) else (*at, position)
            if any(_alike(value, other) for other in tried[:position]):
                raise sweep.where.say(here, f"{value!r} stands there twice")
            for name in value if isinstance(value, dict) else ():
                if f"{key}.{name}" in sweep.file.vary:
                    message = f"it sets {name!r}, which {key}.{name} varies"
                    raise sweep.where.say(here, message)
            if why := _misfit(sweep, key, value):
                raise sweep.where.say(here, f"{value!r} does not fit the recipe: {why}")
    if sweep.file.search is None and sweep.file.combinations > MOST:
        message = f"{sweep.file.combinations} combinations; the limit is {MOST}: use 'search'"
        raise sweep.where.say(("vary",), message)
    known = [step.id for step in sweep.recipe.steps if step.id not in reports]
    for position, stop in enumerate(sweep.file.stop):
        if stop.after not in known:
            message = f"{stop.after!r} is no step that branches run{hint(stop.after, known)}"
            raise sweep.where.say(("stop", position, "after"), message)
        made = sweep.recipe.step(stop.after).stage.produces
        if made not in (None, *SCORED):
            message = f"{stop.after!r} makes {made.value}, which has no score"
            raise sweep.where.say(("stop", position, "after"), message)


def _check_rows(sweep: Sweep) -> None:
    """Raise RecipeError if there are no development rows to choose by."""
    recipe = sweep.recipe.recipe
    task = unlabelled.of_data(tasks.find(recipe.task), recipe.data)
    if recipe.data.corpus or (task.unlabelled and NAME not in task.answered):
        raise sweep.where.say(
            ("recipe",),
            "this recipe has no development rows to rank its branches by: of a search, or of texts "
            "without scores, they have no right answers",
        )


def _alike(value: Any, other: Any) -> bool:
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _reports(recipe: LoadedRecipe) -> set[str]:
    """Return the ids of the steps that only measure: no other step reads what they write."""
    read = {step.input for step in recipe.steps}
    read |= {name for step in recipe.steps for name in step.stage.references().values()}
    return {
        step.id
        for step in recipe.steps
        if step.stage.produces is Kind.REPORT and step.id not in read
    }
