"""The recipe: what a YAML file may say, checked before anything runs."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipeline import quantity, yaml_source
from pipeline import stage as stages
from pipeline.errors import RecipeError
from pipeline.places import Places, nearest
from pipeline.quantity import Quantity
from pipeline.stage import Stage

NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}$")
Name = Annotated[str, Field(pattern=NAME.pattern)]
FORMS = ("max", "min", "max_drop", "min_retained", "min_speedup", "min_shrink", "max_regression")
REGRESSIONS = ("accuracy", "latency_p50", "size")
"""What ``max_regression`` without a metric looks at."""
REMOTE_TAG = "#"


class Part(BaseModel):
    """Base of the recipe's parts: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Data(Part):
    """The labelled text, and which columns to read.

    A reference is a JSONL, CSV, TSV or Parquet file beside the recipe, ``package:import_name/file``
    or ``hub:owner/name@revision/path/in/the/repository.parquet``.
    """

    train: str
    eval: str
    unlabelled: str | None = Field(None, description="text of the domain for the teacher to label")
    text: str | Annotated[tuple[str, ...], Field(min_length=1, max_length=2)] = Field(
        "text", description="the text column, or two columns for a sentence pair"
    )
    label: str = "label"
    slices: tuple[str, ...] = Field(
        (), description="columns of the eval split by whose values accuracy is told too"
    )
    max_length: int = Field(
        128, ge=4, le=8192, description="tokens; longer rows are cut, and counted"
    )

    @property
    def text_columns(self) -> tuple[str, ...]:
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def references(self) -> dict[str, str]:
        """Return split name -> reference, for the splits that the recipe has."""
        pairs = {"train": self.train, "eval": self.eval, "unlabelled": self.unlabelled}
        return {name: reference for name, reference in pairs.items() if reference}


class Target(Part):
    """The machine to measure on: execution provider and intra-op threads."""

    name: Name = "cpu"
    provider: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    threads: int = Field(default=1, ge=1, le=1024)


class Budget(Part):
    """A bound on one metric. Exactly one of the forms is given.

    ``max`` / ``min``   absolute bounds
    ``max_drop``        non-inferiority to ``against``, in points of the metric
    ``min_retained``    share of ``against``'s value that must be kept
    ``min_speedup``     how many times faster than ``against`` in fused fp32 ONNX Runtime
    ``min_shrink``      how many times smaller than ``against``'s fp32 bundle
    ``max_regression``  how much worse than ``against``, as a share
    """

    metric: str
    max: Quantity | None = None
    min: Quantity | None = None
    max_drop: Quantity | None = None
    min_retained: Quantity | None = None
    min_speedup: Quantity | None = None
    min_shrink: Quantity | None = None
    max_regression: Quantity | None = None
    against: str | None = Field(
        None, description="an earlier stage's id, a tag, or another store's: URL#tag"
    )
    target: str | None = Field(None, description="a target's name; default: every target")
    level: Literal["error", "warn"] = "error"

    @model_validator(mode="before")
    @classmethod
    def _units_fit(cls, value: Any) -> Any:
        """Refuse a limit in another unit than its metric's: 5 ms are no size."""
        from pipeline.verdict import expects

        metric = value.get("metric") if isinstance(value, dict) else None
        if not isinstance(metric, str):
            return value  # which is an error of its own
        for form in FORMS:
            found, expected = quantity.kind(value.get(form)), expects(metric, form)
            if found and expected not in (found, None):
                raise ValueError(f"{form}: {value[form]!r} is {found}; {metric} takes {expected}")
        _check_share(value.get("max_regression"))
        return value

    @model_validator(mode="after")
    def _one_form(self) -> Budget:
        given = [form for form in FORMS if getattr(self, form) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(FORMS)}; found {given or 'none'}")
        if self.form in ("max", "min") and self.against:
            raise ValueError(f"'{self.form}' is an absolute bound and takes no 'against'")
        if self.form not in ("max", "min") and not self.against:
            raise ValueError(f"'{self.form}' compares, so it needs 'against': a stage or a tag")
        return self

    @property
    def form(self) -> str:
        return next(form for form in FORMS if getattr(self, form) is not None)

    @property
    def limit(self) -> float:
        return float(getattr(self, self.form))


def _check_share(given: Any) -> None:
    """Refuse a regression of 5, which is 500 %: who means that writes it so."""
    try:
        limit = float(given)
    except (TypeError, ValueError):
        return  # none, or with its unit, or an error of its own
    if 1 <= limit < math.inf:
        raise ValueError(
            f"max_regression: {limit:g} is {limit:.0%}; did you mean '{limit:g} %'? "
            f"More than 100 % is written with its sign"
        )


@dataclass(frozen=True)
class Step:
    """A stage at its place in the recipe: its id, its parameters, and the id of its input."""

    id: str
    stage: Stage
    input: str
    position: int


class Recipe(Part):
    """A model, data, a chain of stages, and the budgets that the result must keep."""

    name: Name
    model: str = Field(
        description="a directory, hub:owner/name@revision, or package:import_name/sub/dir"
    )
    task: str = "text-classification"
    data: Data
    stages: tuple[dict[str, Any] | str, ...] = Field(min_length=1)
    targets: tuple[Target, ...] = (Target(),)
    budgets: tuple[Budget, ...] = ()
    seed: int = Field(0, ge=0, lt=2**32)
    allow_pickle: bool = Field(False, description="load pickled weights, with weights_only")

    @field_validator("budgets", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """A mapping is one budget; ``max_regression`` without a metric is one of each of these."""
        listed = [value] if isinstance(value, dict) else value
        if not isinstance(listed, list):
            return value
        budgets: list[Any] = []
        for one in listed:
            short = isinstance(one, dict) and "max_regression" in one and "metric" not in one
            budgets += [{"metric": name, **one} for name in REGRESSIONS] if short else [one]
        return budgets

    @field_validator("targets")
    @classmethod
    def _distinct(cls, value: tuple[Target, ...]) -> tuple[Target, ...]:
        names = [target.name for target in value]
        if not value or len(set(names)) != len(names):
            raise ValueError("give at least one target, each with a name of its own")
        return value


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe read from a file: its parts, its steps, the folder its paths start from."""

    path: Path
    base: Path
    recipe: Recipe
    steps: tuple[Step, ...]
    where: Places

    @property
    def tags(self) -> tuple[str, ...]:
        """What budgets compare with that is no stage: tags, each once."""
        ids = {step.id for step in self.steps}
        named = [budget.against for budget in self.recipe.budgets]
        return tuple(dict.fromkeys(name for name in named if name and name not in ids))

    @property
    def budget_lines(self) -> list[int]:
        """The line of each budget in the file; a short one stands for several."""
        known, lines = self.where.lines, []
        for at in [("budgets", place) for place in range(len(self.recipe.budgets))]:
            here = at if at in known else ("budgets",)
            short = (*here, "max_regression") in known and (*here, "metric") not in known
            lines += [known.get(here, 1)] * (len(REGRESSIONS) if short else 1)
        return lines[: len(self.recipe.budgets)]

    def step(self, identifier: str) -> Step:
        """Return a step by its id. Raises StopIteration where there is none."""
        return next(step for step in self.steps if step.id == identifier)

    def error(self, step: Step, message: str) -> RecipeError:
        """Word an error about a step, with the file and line where it stands."""
        return self.where.say(("stages", step.position, step.stage.name), message)


def load(path: Path) -> LoadedRecipe:
    """Read and check a recipe. Raises RecipeError with file, line, key and what was expected."""
    values, lines = yaml_source.read(path)
    if not isinstance(values, dict):
        raise RecipeError(f"{path}:1: a recipe is a mapping with name, model, data and stages")
    where = Places(path, lines)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise where.error(error, Recipe, ()) from None
    folder = path.resolve().parent
    steps = _steps(recipe, folder, where)
    _check_budgets(recipe, steps, where)
    return LoadedRecipe(path, folder, recipe, steps, where)


def _steps(recipe: Recipe, folder: Path, where: Places) -> tuple[Step, ...]:
    steps: list[Step] = []
    for position, entry in enumerate(recipe.stages):
        at: yaml_source.Location = ("stages", position)
        given = {entry: None} if isinstance(entry, str) else dict(entry)
        identifier, source = given.pop("as", None), given.pop("from", None)
        if len(given) != 1:
            keys = ", ".join(map(str, given)) or "none"
            raise where.say(at, f"name one stage, with 'as' and 'from' if needed; found {keys}")
        name, parameters = next(iter(given.items()))
        stage = _stage(name, parameters, folder, (*at, name), where)
        known = [step.id for step in steps]
        if identifier is None:
            identifier = _next_id(stage.name, known)
        if not isinstance(identifier, str) or not NAME.fullmatch(identifier):
            raise where.say((*at, "as"), f"{identifier!r} is not a name ({NAME.pattern})")
        if identifier in (*known, "model"):
            raise where.say((*at, "as"), f"the id {identifier!r} is taken")
        if source is not None and source not in (*known, "model"):
            raise where.say(
                (*at, "from"), f"{source!r} is no earlier stage{nearest(source, known)}"
            )
        for role, reference in stage.references().items():
            if reference not in known:
                hint = nearest(reference, known)
                raise where.say((*at, name), f"{role}: {reference!r} is no earlier stage{hint}")
        previous = steps[-1].id if steps else "model"
        steps.append(Step(identifier, stage, source or previous, position))
    return tuple(steps)


def _stage(
    name: Any, parameters: Any, folder: Path, at: yaml_source.Location, where: Places
) -> Stage:
    try:
        kind = stages.find(str(name), folder)
    except RecipeError as error:
        raise where.say(at, str(error)) from None
    if not isinstance(parameters, dict | None):
        raise where.say(at, f"its parameters are a mapping, found {parameters!r}")
    try:
        return kind.model_validate(parameters or {})
    except ValidationError as error:
        raise where.error(error, kind, at) from None


def _next_id(name: str, known: list[str]) -> str:
    """Return a stage's name, or with ``-2``, ``-3``, … where it stands in the recipe already."""
    numbered = (f"{name}-{number}" for number in range(2, len(known) + 3))
    return next(identifier for identifier in (name, *numbered) if identifier not in known)


def _check_budgets(recipe: Recipe, steps: tuple[Step, ...], where: Places) -> None:
    ids = [step.id for step in steps]
    targets = [target.name for target in recipe.targets]
    for position, budget in enumerate(recipe.budgets):
        at: yaml_source.Location = ("budgets", position)
        name = budget.against
        if name and name not in ids:
            # It may be a tag, which only a store knows; but so near to a stage it is misspelt.
            close = difflib.get_close_matches(name, ids, n=1, cutoff=0.85)
            if close or (REMOTE_TAG not in name and not NAME.fullmatch(name)):
                hint = nearest(name, close or ids)
                raise where.say((*at, "against"), f"{name!r} is no stage here{hint}")
        if budget.target and budget.target not in targets:
            hint = nearest(budget.target, targets)
            raise where.say((*at, "target"), f"{budget.target!r} is no target here{hint}")
