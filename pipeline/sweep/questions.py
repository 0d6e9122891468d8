"""What a user asks of the branches of a sweep, and what they are compared by."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from rarefy.pipeline.terms import recipe_parts
from rarefy.pipeline.terms.recipe_parts import Part, Points, Quantity

Goal = Literal["accuracy", "latency", "size"]
"""What branches are compared by: the main score on the development split, the median latency of
the bundle on the recipe's first target, and its bytes."""
GOALS: Final[tuple[Goal, ...]] = ("accuracy", "latency", "size")
TITLES: Final = {"latency": "fastest", "size": "smallest", None: "most-accurate"}


def of_kind(*kinds: str) -> BeforeValidator:
    """Return a check that a quantity with a unit is of one of these kinds."""

    def check(value: Any) -> Any:
        kind = recipe_parts.quantity_kind(value)
        if kind and kind not in kinds:
            raise ValueError(f"{value!r} is {kind}; expected {kinds[0]}")
        return value

    return BeforeValidator(check)


Time = Annotated[Quantity, Field(gt=0), of_kind("a time")]
Size = Annotated[Quantity, Field(gt=0), of_kind("a size")]


class Limits(Part):
    """What an answer may take at most."""

    latency: Time | None = None
    size: Size | None = None


class Question(Part):
    """What a user wants of the branches: ``{maximize: accuracy, under: {latency: 2 ms}}``."""

    maximize: Literal["accuracy"] | None = None
    minimize: Literal["latency", "size"] | None = None
    under: Limits = Limits()
    within: Annotated[Points, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Margin below the most accurate branch, in percentage points"
    )

    @model_validator(mode="after")
    def _answerable(self) -> Question:
        if (self.maximize is None) == (self.minimize is None):
            raise ValueError("give either maximize or minimize")
        if self.maximize and self.within is not None:
            raise ValueError(
                "'within' needs 'minimize': the most accurate branch is within any margin"
            )
        return self

    @property
    def limits(self) -> dict[Goal, float]:
        """Goal -> its limit, in ms or bytes."""
        limits: dict[Any, float] = self.under.model_dump(exclude_none=True)
        return limits

    @property
    def name(self) -> str:
        """A name for files and recipes: ``most-accurate-under-2-ms``."""
        parts = [TITLES[self.minimize]]
        if self.under.latency is not None:
            parts.append(f"under-{_digits(self.under.latency)}-ms")
        if self.under.size is not None:
            parts.append(f"under-{_digits(self.under.size / 1e6)}-mb")
        if self.within is not None:
            points = _digits(100 * self.within)
            plural = "" if points == "1" else "s"
            parts.append(f"within-{points}-point{plural}")
        return "-".join(parts)

    def words(self) -> str:
        """Return the question in words: ``the most accurate under 2 ms``."""
        return f"the {self.name}".replace("most-accurate", "most accurate").replace("-", " ")


def _digits(number: float) -> str:
    """Return a number without an exponent, which no name may have: ``0.5``, ``10000000``."""
    return f"{number:.12f}".rstrip("0").rstrip(".")


DEFAULT_QUESTIONS: Final = (
    Question(minimize="latency", within=0.01),
    Question(minimize="size", within=0.01),
    Question(maximize="accuracy"),
)
