"""The file of a sweep: its format, and the checks before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from pipeline.recipe import recipe as recipes
from pipeline.recipe import yaml_source
from pipeline.recipe.places import Places
from pipeline.recipe.recipe import LoadedRecipe
from pipeline.sweep import fields
from pipeline.terms import credentials
from pipeline.terms.digests import value_sha256
from pipeline.terms.errors import RecipeError
from pipeline.terms.quantity import Quantity
from pipeline.terms.vocabulary import Name, Part

Goal = Literal["accuracy", "latency", "size"]
"""What branches are compared by: the main score on the development split, the median latency of
the bundle on the recipe's first target, and its bytes."""
GOALS: Final[tuple[Goal, ...]] = ("accuracy", "latency", "size")
MOST: Final = 1000
"""Branches of a grid."""
TRIED: Final = 200
"""Combinations with which a value is tried before it counts as wrong."""


class Range(Part):
    """Numbers that a search may try: whole ones if ``low`` and ``high`` are whole."""

    low: int | float
    high: int | float
    log: bool = Field(False, description="as likely between 1 and 10 as between 10 and 100")

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
    seed: int = Field(0, ge=0, lt=2**32)


class Stop(Part):
    """When a branch is hopeless: by its score on the development split after one of its steps."""

    after: str
    points: Quantity | None = Field(
        None, gt=0, lt=1, description="so far below the best branch at the same step"
    )
    min_accuracy: Quantity | None = None

    @model_validator(mode="after")
    def _one(self) -> Stop:
        if (self.points is None) == (self.min_accuracy is None):
            raise ValueError("give either points or min_accuracy")
        return self


class Question(Part):
    """What a user wants of the branches: ``{most: accuracy, under: {latency: 2 ms}}``."""

    most: Literal["accuracy"] | None = None
    least: Literal["latency", "size"] | None = None
    under: dict[Literal["latency", "size"], Quantity] = Field(default_factory=dict)
    within: Quantity | None = Field(
        default=None, gt=0, lt=1, description="points below the most accurate branch"
    )

    @model_validator(mode="after")
    def _answerable(self) -> Question:
        if (self.most is None) == (self.least is None):
            raise ValueError("give either most or least")
        if self.most and self.within is not None:
            raise ValueError("within goes with least: the most accurate is within any points")
        return self

    @property
    def name(self) -> str:
        """A name for files and recipes: ``most-accurate-under-2-ms``."""
        words = {"latency": "fastest", "size": "smallest", None: "most-accurate"}[self.least]
        limits = [f"under-{_short(goal, limit)}" for goal, limit in self.under.items()]
        within = [f"within-{100 * self.within:g}-points"] if self.within is not None else []
        return "-".join([words, *limits, *within])

    def words(self) -> str:
        """Return the question in words: ``the most accurate under 2 ms``."""
        return f"the {self.name}".replace("most-accurate", "most accurate").replace("-", " ")


def _short(goal: str, limit: float) -> str:
    return f"{limit:g}-ms" if goal == "latency" else f"{limit / 1e6:g}-mb"


DEFAULT_QUESTIONS: Final = (
    Question(least="latency", within=0.01),
    Question(least="size", within=0.01),
    Question(most="accuracy"),
)

Choices = Range | Annotated[tuple[Any, ...], Field(min_length=1)]


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

    @model_validator(mode="after")
    def _finite(self) -> SweepFile:
        ranges = [key for key, given in self.vary.items() if isinstance(given, Range)]
        if self.search is None and ranges:
            raise ValueError(f"{ranges[0]} is a range, which needs 'search'; or list its values")
        if self.search is None and self.combinations > MOST:
            raise ValueError(f"{self.combinations} combinations; the limit is {MOST}: use 'search'")
        return self

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
        asked = self.file.model_dump(mode="json", exclude={"ask", "stop", "search"})
        return value_sha256([asked, self.values])


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
    """Raise RecipeError if a field, one of its values or a stop cannot be."""
    if sweep.recipe.recipe.data.corpus:
        raise sweep.where.say(
            ("recipe",),
            "a recipe with data.corpus has no development rows to rank its branches by: they are "
            "pairs, without documents to search",
        )
    for key, choices in sweep.file.vary.items():
        at: yaml_source.Location = ("vary", key)
        try:
            fields.check(sweep.recipe, key)
        except RecipeError as error:
            raise sweep.where.say(at, str(error)) from None
        tried = choices.ends if isinstance(choices, Range) else choices
        for position, value in enumerate(tried):
            here = at if isinstance(choices, Range) else (*at, position)
            if value in tried[:position]:
                raise sweep.where.say(here, f"{value!r} stands there twice")
            if why := _misfit(sweep, key, value):
                raise sweep.where.say(here, f"{value!r} does not fit the recipe: {why}")
    known = [step.id for step in sweep.recipe.steps]
    for position, stop in enumerate(sweep.file.stop):
        if stop.after not in known:
            message = f"{stop.after!r} is no step of the recipe"
            raise sweep.where.say(("stop", position, "after"), message)
