"""A budget: a bound on one metric that a bundle must keep."""

from __future__ import annotations

import math
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from pipeline.terms import quantity
from pipeline.terms.metrics import FORMS, USUAL, expects, known
from pipeline.terms.quantity import Quantity
from pipeline.terms.vocabulary import Part

REGRESSIONS: Final = USUAL
"""The metrics that ``max_regression`` covers if the budget names no metric."""


class Budget(Part):
    """A bound on one metric: exactly one of the forms ``min``, ``max``, ``max_drop`` and so on."""

    metric: str = Field(description="what is bounded: a score, latency_p50, size, memory, …")
    max: Quantity | None = Field(default=None, description="the highest value that it may have")
    min: Quantity | None = Field(default=None, description="the lowest value that it may have")
    max_drop: Quantity | None = Field(
        default=None, description="non-inferiority margin to `against`, in points of the metric"
    )
    min_retained: Quantity | None = Field(
        default=None, description="fraction of `against`'s value that must remain"
    )
    min_speedup: Quantity | None = Field(
        default=None, description="speedup factor over `against` in fused fp32 ONNX Runtime"
    )
    min_shrink: Quantity | None = Field(
        default=None, description="factor by which it is smaller than `against`'s fp32 bundle"
    )
    max_regression: Quantity | None = Field(
        default=None,
        description="how much worse than `against` it may be, as a fraction; without a metric, of "
        "the main score, latency_p50 and size each",
    )
    against: str | None = Field(
        default=None,
        description="id of an earlier stage, a tag, or a tag in another store: URL#tag",
    )
    target: str | None = Field(default=None, description="name of a target; default: every target")
    caches: Literal["hot", "cold"] = Field(
        default="hot", description="times of a model called again and again, or of calls far apart"
    )
    level: Literal["error", "warn"] = Field(
        default="error", description="whether missing it fails the run, or is a warning only"
    )

    @model_validator(mode="before")
    @classmethod
    def _units_fit(cls, value: Any) -> Any:
        """Reject a limit whose unit does not fit the metric: 5 ms is not a size."""
        metric = value.get("metric") if isinstance(value, dict) else None
        if not isinstance(metric, str):
            return value  # reported as its own error
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
            raise ValueError(f"'{self.form}' is an absolute bound; remove 'against'")
        if self.form not in ("max", "min") and not self.against:
            raise ValueError(f"'{self.form}' is a comparison; set 'against' to a stage or a tag")
        if self.caches == "cold" and known(self.metric).kind != "latency":
            raise ValueError(f"'caches' is of latencies; {self.metric} has none")
        return self

    @property
    def form(self) -> str:
        return next(form for form in FORMS if getattr(self, form) is not None)

    @property
    def limit(self) -> float:
        return float(getattr(self, self.form))


def _check_share(given: Any) -> None:
    """Reject a regression of 5, which means 500 %, unless it is written as '500 %'."""
    try:
        limit = float(given)
    except (TypeError, ValueError):
        return  # absent, written with a unit, or reported as its own error
    if 1 <= limit < math.inf:
        raise ValueError(
            f"max_regression: {limit:g} is {limit:.0%}; did you mean '{limit:g} %'? "
            f"Write a limit of 100 % or more with the % sign"
        )
