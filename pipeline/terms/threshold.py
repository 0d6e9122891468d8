"""What the rows that a bundle decides must keep: a precision, or a recall."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, model_validator

from rarefy.pipeline.terms.quantity import Quantity
from rarefy.pipeline.terms.recipe_parts import Part

THRESHOLDS: Final = "thresholds"
"""The key of config.json under which each label's threshold is kept."""
Share = Annotated[Quantity, Field(gt=0, le=1)]


class Threshold(Part):
    """What decides each label's threshold: exactly one of ``precision`` and ``recall``."""

    precision: Share | None = Field(
        default=None,
        description="Least share of correct rows among those that get a label: as many as "
        "possible get one",
    )
    recall: Share | None = Field(
        default=None,
        description="Least share of a label's rows that get it: as few others as possible do",
    )

    @model_validator(mode="after")
    def _one(self) -> Threshold:
        if (self.precision is None) == (self.recall is None):
            raise ValueError("give exactly one of precision and recall")
        return self
