"""Weights of losses that change while a model trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

Weight = float | tuple[float, float]
"""A weight, or the one of the first step and the one of the last: evenly from one to the other."""


def _checked(bounds: str) -> WrapValidator:
    """Return a validator that names both forms, and makes one number of a weight that stays."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Weight:
        try:
            weight: Weight = handler(value)
        except ValidationError as error:
            raise ValueError(
                f"give a number {bounds}, or the first and the last: [1, 0]"
            ) from error
        same = isinstance(weight, tuple) and weight[0] == weight[1]
        return weight[0] if same else weight

    return WrapValidator(check)


Positive = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Scheduled = Annotated[Positive | tuple[Positive, Positive], _checked("from 0")]
ScheduledShare = Annotated[Share | tuple[Share, Share], _checked("from 0 to 1")]


@dataclass
class Clock:
    """The share of the training's steps that are done; 1 for whoever is not training."""

    share: float = 1.0

    def now(self, weight: Weight) -> float:
        """Return what a weight is now."""
        if isinstance(weight, tuple):
            first, last = weight
            return first + self.share * (last - first)
        return weight


def times(weight: Weight, factor: float) -> Weight:
    """Return a weight, multiplied at every step."""
    if isinstance(weight, tuple):
        return factor * weight[0], factor * weight[1]
    return factor * weight
