"""The verdict and its budget results: pass, fail or inconclusive, each with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from rarefy.pipeline.terms.budget import EVERY
from rarefy.pipeline.terms.errors import BudgetError, EvidenceError
from rarefy.pipeline.terms.outcomes import Outcome, worst
from rarefy.pipeline.terms.recipe_parts import LINEAR

SCHEMA: Final = "rarefy.verdict/3"
LINEAR_BASELINE: Final = "linear baseline"
"""What the comparison with the linear model is called."""


class CellResult(BaseModel):
    """The result of a budget on one label, or on the rows of one slice.

    ``rows``: those that count for it: rows, sentences or groups of them.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="the label, or the value of the slice's column")
    rows: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    outcome: Outcome
    reason: str


def _is_empty(value: Any) -> bool:
    return not value


class BudgetResult(BaseModel):
    """The result of one budget on one target: the limit, the measured value and the outcome.

    If it is on a label or slice, ``cells`` has the result of each, worst first, and the value is
    that of the worst.
    """

    model_config = ConfigDict(extra="forbid")

    metric: str
    label: str | None = Field(default=None, exclude_if=_is_empty)
    slice: str | None = Field(default=None, exclude_if=_is_empty)
    form: str
    limit: float
    against: str | None = None
    target: str | None = None
    caches: Literal["warm", "cold"] = "warm"
    level: Literal["error", "warn"] = "error"
    code: str | None = Field(
        default=None, description="the sha256 of the code of a metric of one's own"
    )
    value: float | None = Field(
        default=None, description="None if the metric could not be measured"
    )
    low: float | None = None
    high: float | None = None
    outcome: Outcome
    reason: str = Field(description="one human-readable sentence with the numbers")
    cells: list[CellResult] = Field(default_factory=list, exclude_if=_is_empty)

    @property
    def cell(self) -> str | None:
        """The label or slice as in ``Budget.cell``."""
        if self.label is None:
            return self.slice
        return f"label={self.label}"

    @property
    def is_family(self) -> bool:
        """Whether it is on every label, or on every value of a column."""
        return self.cell is not None and self.cell.endswith(f"={EVERY}")

    def named(self, cell: str) -> dict[str, str | None]:
        """Return ``label`` and ``slice`` of one of its cells."""
        if self.slice is None:
            return {"label": cell}
        column, _, _ = self.slice.partition("=")
        return {"slice": f"{column}={cell}"}

    @property
    def subject(self) -> str:
        """The metric with its label or slice: ``recall (label=SSN)``."""
        if self.cell is None:
            return self.metric
        return f"{self.metric} ({self.cell})"

    @property
    def is_linear_baseline(self) -> bool:
        """Whether it compares with the linear model, and is no budget of the recipe."""
        return self.against == LINEAR

    @property
    def name(self) -> str:
        """The metric with the form of its limit: ``size min_shrink``."""
        if self.is_linear_baseline:
            return LINEAR_BASELINE
        return f"{self.subject} {self.form}"

    @property
    def place(self) -> str | None:
        """The target, and whether caches were emptied there; None if no target affects it."""
        return f"{self.target} with cold caches" if self.caches == "cold" else self.target


def combine(results: Sequence[BudgetResult], evidence: Sequence[str]) -> Outcome:
    """Return the outcome of a verdict: the worst of its budgets of level error.

    ``evidence``: reasons why the measurement cannot support a verdict, so that it is no pass.
    """
    outcome = worst(result.outcome for result in results if result.level == "error") or "pass"
    if evidence and outcome == "pass":
        return "inconclusive"
    return outcome


class Verdict(BaseModel):
    """The results of all budgets of a recipe. It fails if an error-level budget fails.

    ``evidence`` lists reasons why the measurement cannot support a verdict, whatever the budgets:
    for example, the machine was throttled, or the baseline was measured on another machine.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_: Literal["rarefy.verdict/3"] = Field(default=SCHEMA, alias="schema")
    outcome: Outcome
    bundle: str | None = Field(default=None, description="the digest of what was measured")
    budgets: list[BudgetResult]
    evidence: list[str] = Field(default_factory=list)

    @property
    def missed(self) -> list[str]:
        """The reasons of the error-level budgets that failed."""
        return self._reasons("fail")

    @property
    def undecided(self) -> list[str]:
        """The reasons of the error-level budgets that are inconclusive."""
        return self._reasons("inconclusive")

    @property
    def warned(self) -> list[str]:
        """The names of the recipe's budgets of level warn that are not met, and decide nothing."""
        budgets = [budget for budget in self.budgets if not budget.is_linear_baseline]
        unmet = [budget for budget in budgets if budget.outcome != "pass"]
        return [budget.name for budget in unmet if budget.level == "warn"]

    def _reasons(self, outcome: Outcome) -> list[str]:
        """Return the reasons of the error-level budgets with an outcome."""
        decisive = [budget for budget in self.budgets if budget.level == "error"]
        return [budget.reason for budget in decisive if budget.outcome == outcome]

    def exit_code(self, strict: bool) -> int:
        """Return 0 for pass, 3 for a missed budget, 4 for no verdict.

        ``evidence`` against the measurement gives 4 even if not ``strict``; an inconclusive
        budget gives 4 only if ``strict``.
        """
        if self.outcome == "fail":
            return BudgetError.exit_code
        if self.evidence or (strict and self.outcome == "inconclusive"):
            return EvidenceError.exit_code
        return 0
