"""A budget: a bound on one metric that a bundle must keep, and whether it decides anything."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from rarefy.pipeline.terms import recipe_parts
from rarefy.pipeline.terms.metrics import (
    DIFFERENCES,
    FORMS,
    METRICS,
    USUAL,
    Metric,
    OwnMetric,
    expects,
    find,
    known,
)
from rarefy.pipeline.terms.recipe_parts import Part, Points, Quantity, label_name
from rarefy.pipeline.terms.wording import hint, required

REGRESSIONS: Final = USUAL
"""The metrics that ``max_regression`` covers if the budget names no metric."""
EVERY: Final = "*"
"""Stands for every label, or every value of a slice's column."""
OTHER: Final = "(rare)"
"""The slice of rare values. In brackets, because ``other`` is a common value itself."""
FEWEST_ROWS: Final = 20
"""Rows with which a value is a slice of its own."""


class Budget(Part):
    """A bound on one metric: exactly one of the forms ``min``, ``max``, ``max_drop`` and so on."""

    metric: str = Field(
        description="Metric that is bounded: a score, latency_p50, size, memory, …, or a function "
        "of one's own, module:function"
    )
    max: Quantity | None = Field(default=None, description="Highest allowed value")
    min: Quantity | None = Field(default=None, description="Lowest allowed value")
    max_drop: Points | None = Field(
        default=None,
        description="Non-inferiority margin below `against`, in percentage points: 3 points, or "
        "0.03",
    )
    max_increase: Points | None = Field(
        default=None,
        description="Non-inferiority margin above `against`, of an error: 2 points, or 0.02",
    )
    min_retained: Quantity | None = Field(
        default=None, description="Share of the value of `against` that must be retained"
    )
    min_speedup: Quantity | None = Field(
        default=None,
        description="Minimum speed-up over `against`, which runs in fused fp32 ONNX Runtime",
    )
    min_shrink: Quantity | None = Field(
        default=None,
        description="Factor by which the bundle must be smaller than the fp32 bundle of `against`",
    )
    max_regression: Quantity | None = Field(
        default=None,
        description="Largest allowed relative loss compared with `against`, as a share; without "
        "a metric, it applies to the main score, latency_p50 and size each",
    )
    label: Annotated[str, BeforeValidator(label_name)] | None = Field(
        default=None,
        description="Label that precision, recall or f1 is of, such as an entity type; '*': every "
        "label",
    )
    slice: str | None = Field(
        default=None,
        description="Rows that the metric is of: COLUMN=VALUE, with a column of data.slices; "
        "COLUMN=*: the rows of each value",
    )
    against: str | None = Field(
        default=None,
        description="ID of an earlier stage, a tag, or a tag in another store: URL#tag",
    )
    target: str | None = Field(default=None, description="Name of a target; default: every target")
    caches: Literal["warm", "cold"] = Field(
        default="warm",
        description="State of the CPU caches: warm, as in repeated calls, or cold, as in calls "
        "far apart",
    )
    level: Literal["error", "warn"] = Field(
        default="error", description="Whether a missed budget fails the run or is only a warning"
    )
    _own: OwnMetric | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _units_fit(cls, value: Any) -> Any:
        """Reject a limit whose unit does not fit the metric: 5 ms is not a size."""
        if not isinstance(value, dict) or not isinstance(value.get("metric"), str):
            return value  # reported as its own error
        metric = value["metric"]
        for form in FORMS:
            limit = value.get(form)
            unit, expected = recipe_parts.quantity_kind(limit), expects(metric, form)
            if unit and expected not in (unit, None):
                raise ValueError(f"{form}: {limit!r} is {unit}; {metric} takes {expected}")
        _check_share(value.get("max_regression"))
        return value

    @model_validator(mode="after")
    def _one_form(self) -> Budget:
        forms = [form for form in FORMS if getattr(self, form) is not None]
        if len(forms) != 1:
            raise ValueError(f"give exactly one of {', '.join(FORMS)}; found {forms or 'none'}")
        [form] = forms
        if form in ("max", "min"):
            if self.against:
                raise ValueError(f"'{form}' is an absolute bound; remove 'against'")
        elif not self.against:
            raise ValueError(f"'{form}' is a comparison; set 'against' to a stage or a tag")
        if self.caches == "cold" and known(self.metric).kind != "latency":
            raise ValueError(f"'caches' applies to latencies, not to {self.metric}")
        return self

    @model_validator(mode="after")
    def _one_cell(self) -> Budget:
        metric = known(self.metric)
        if self.label is not None and not metric.of_label:
            of_labels = [name for name, entry in METRICS.items() if entry.of_label]
            names = ", ".join(of_labels)
            raise ValueError(f"'label' applies to {names}, not to {self.metric}")
        if self.slice is None:
            return self
        if self.label is not None:
            raise ValueError("give a label or a slice, not both")
        if not metric.from_rows:
            raise ValueError(f"'slice' applies to scores of rows, not to {self.metric}")
        if not all(self.slice.partition("=")):
            raise ValueError(f"slice: {self.slice!r}: write COLUMN=VALUE, or COLUMN=*")
        return self

    @property
    def own(self) -> OwnMetric | None:
        """The user's own function, if the metric is one, once it is loaded."""
        return self._own

    def with_own(self, metric: OwnMetric) -> Budget:
        """Return the budget with the function that its metric names."""
        budget = self.model_copy()
        budget._own = metric
        return budget

    @property
    def form(self) -> str:
        return next(form for form in FORMS if getattr(self, form) is not None)

    @property
    def limit(self) -> float:
        return float(getattr(self, self.form))

    @property
    def cell(self) -> str | None:
        """What of the predictions it is on: ``label=NAME`` or ``COLUMN=VALUE``; None: on all."""
        if self.label is None:
            return self.slice
        return f"label={self.label}"

    @property
    def column_and_value(self) -> tuple[str, str]:
        """The column of the slice and the value there, ``*`` for each value; both empty without."""
        text = self.slice or ""
        column, _, value = text.partition("=")
        return column, value


def frequent(counts: Mapping[str, int]) -> set[str]:
    """Return the values with enough rows for a slice of their own."""
    return {value for value, count in counts.items() if count >= FEWEST_ROWS}


def _check_share(value: Any) -> None:
    """Reject a regression of 5, which means 500%, unless it is written as '500%'."""
    try:
        limit = float(value)
    except (TypeError, ValueError):
        return  # absent, written with a unit, or reported as its own error
    if 1 <= limit < math.inf:
        raise ValueError(
            f"max_regression: {limit:g} is {limit:.0%}; did you mean '{limit:g}%'? "
            f"Write a limit of 100% or more with the % sign"
        )


def find_problems(budgets: Iterable[Budget]) -> list[str]:
    """Return the problems that budgets have before anything is measured, one sentence each.

    Problems are unknown metrics, forms that do not apply to their metric, limits that every model
    or no model can meet, a target for a metric that is not measured per target, and contradictory
    bounds.
    """
    problems, fitting = list[str](), list[Budget]()
    for budget in budgets:
        problem = misfit(budget)
        if problem:
            problems.append(problem)
        else:
            fitting.append(budget)
    problems += filter(None, map(_senseless, fitting))
    floors = [budget for budget in fitting if budget.form == "min"]
    ceilings = [budget for budget in fitting if budget.form == "max"]
    for floor, ceiling in itertools.product(floors, ceilings):
        if _contradict(floor, ceiling):
            names = dict.fromkeys((floor.metric, ceiling.metric))
            problems.append(
                f"the budgets for {' and '.join(names)} contradict each other: "
                f"at least {floor.limit:g} and at most {ceiling.limit:g}"
            )
    return problems


def assumed_units(entries: Iterable[Any]) -> list[str]:
    """Return a note for each limit on a time that is written without a unit.

    ``entries`` are the budgets as the recipe has them; those in another form are left out.
    """
    notes = []
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        name = entry.get("metric")
        for form in ("max", "min"):
            limit = entry.get(form)
            if isinstance(limit, int | float) and expects(str(name), form) == "a time":
                notes.append(
                    f"budget {name}: {form} {limit:g} has no unit; it is read as '{limit:g} ms'"
                )
    return notes


def _senseless(budget: Budget) -> str | None:
    """Return why every model or no model would meet a limit. Returns None for a useful limit."""
    metric, form, limit = known(budget.metric), budget.form, budget.limit
    if budget.target and not metric.timed:
        return (
            f"budget {budget.metric}: this metric is measured once, on the first target; remove "
            f"'target: {budget.target}'"
        )
    reason = None
    if form in (*DIFFERENCES, "max_regression"):
        reason = _loose_regression(form, limit, metric)
    elif form in ("min_speedup", "min_shrink"):
        if limit <= 0:
            reason = "is met by every model; set a factor above 0"
    elif form in ("min", "min_retained"):
        reason = _senseless_minimum(form, limit, metric, budget.metric)
    elif form == "max":
        reason = _senseless_maximum(limit, metric, budget.metric)
    return f"budget {budget.metric}: {form} {limit:g} {reason}" if reason else None


def _loose_regression(form: str, limit: float, metric: Metric) -> str | None:
    """Return the end of a sentence about a regression that every model meets, else None."""
    if limit < 1 or metric.ends[1] > 1:
        return None
    if form in DIFFERENCES:
        meant = required(limit / 100, "points")
        return f"is {required(limit, 'points')}, which every model meets; did you mean '{meant}'?"
    if metric.kind == "score":
        return f"is {limit * 100:g}%, which every model meets; {_percent_hint(limit)}"
    return None


def _senseless_minimum(form: str, limit: float, metric: Metric, name: str) -> str | None:
    """Return the end of a sentence about a minimum that every model or none meets, else None."""
    least, greatest = _ends(metric)
    lowest = least if form == "min" else 0.0
    if limit <= lowest:
        return f"is met by every model; set a minimum above {lowest:g}"
    if form == "min_retained":
        if limit > 1:
            meant = f"; {_percent_hint(limit)}" if limit >= 2 else ""
            return f"requires more than the reference's own value{meant}"
        return None
    if metric.unit == "%" and limit > 1:
        return f"is {limit * 100:g}%, which no model can meet; {_percent_hint(limit)}"
    if limit > greatest:
        return f"can never be met: {name} is never above {greatest:g}"
    return None


def _senseless_maximum(limit: float, metric: Metric, name: str) -> str | None:
    """Return the end of a sentence about a maximum that every model or none meets, else None."""
    least, greatest = _ends(metric)
    if metric.unit == "%" and limit >= 1:
        return f"is {limit * 100:g}%, which every model meets; {_percent_hint(limit)}"
    if limit >= greatest:
        return f"is met by every model: {name} is never above {greatest:g}"
    if limit < least:
        return f"can never be met: {name} is never below {least:g}"
    if limit == 0 and not metric.from_rows:
        return f"can never be met: {name} is never 0"
    return None


def _ends(metric: Metric) -> tuple[float, float]:
    """Return the least and the greatest value of a metric; times and sizes begin at 0."""
    least, greatest = metric.ends
    is_amount = math.isinf(least) and not metric.from_rows
    return (0.0 if is_amount else least), greatest


def _percent_hint(limit: float) -> str:
    return f"did you mean '{limit:g}%'?"


def _contradict(floor: Budget, ceiling: Budget) -> bool:
    """Return whether no measurement meets both: the floored metric never exceeds the other."""
    same_target = floor.target == ceiling.target or None in (floor.target, ceiling.target)
    if not same_target or floor.caches != ceiling.caches or floor.cell != ceiling.cell:
        return False
    return _never_more(floor.metric, ceiling.metric) and floor.limit > ceiling.limit


def _never_more(one: str, other: str) -> bool:
    """Return whether ``one`` never exceeds ``other``.

    A lower percentile never exceeds a higher one, and the model call alone never takes longer than
    the call with tokenization.
    """
    if one == other:
        return True
    clock, _, percentile = one.rpartition("_p")
    longer, _, higher = other.rpartition("_p")
    order = ("latency", "end_to_end")
    if clock not in order or longer not in order:
        return False
    is_shorter = order.index(clock) <= order.index(longer)
    return is_shorter and int(percentile) <= int(higher)


def misfit(budget: Budget) -> str | None:
    """Return why a budget's metric or form is invalid. Returns None if both are valid."""
    metric = find(budget.metric)
    if metric is None:
        return f"unknown metric {budget.metric!r}{hint(budget.metric, METRICS)}"
    if budget.form not in metric.forms:
        forms = ", ".join(sorted(metric.forms))
        return f"budget {budget.metric}: {budget.form!r} does not apply to this metric; use {forms}"
    return None
