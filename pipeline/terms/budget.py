"""A budget: a bound on one metric that a bundle must keep."""

from __future__ import annotations

import math
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from pipeline.terms import quantity
from pipeline.terms.metrics import FORMS, USUAL, expects
from pipeline.terms.quantity import Quantity
from pipeline.terms.vocabulary import Part

REGRESSIONS: Final = USUAL
"""What ``max_regression`` without a metric looks at."""


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
    target: str | None = Field(default=None, description="a target's name; default: every target")
    level: Literal["error", "warn"] = "error"

    @model_validator(mode="before")
    @classmethod
    def _units_fit(cls, value: Any) -> Any:
        """Refuse a limit in another unit than its metric's: 5 ms are no size."""
        metric = value.get("metric") if isinstance(value, dict) else None
        if not isinstance(metric, str):
            return value  # which is an error of its own
        for form in FORMS:
            given, expected = quantity.kind(value.get(form)), expects(metric, form)
            if given and expected not in (given, None):
                raise ValueError(f"{form}: {value[form]!r} is {given}; {metric} takes {expected}")
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
