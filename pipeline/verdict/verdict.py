"""A verdict and the results of its budgets: pass, fail or inconclusive, each with its reason."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.terms.errors import BudgetError, EvidenceError
from pipeline.terms.outcomes import Outcome

SCHEMA: Final = "rarefy.verdict/2"


class BudgetResult(BaseModel):
    """One budget on one target: what was asked, what was measured, and how it came out."""

    model_config = ConfigDict(extra="forbid")

    metric: str
    form: str
    limit: float
    against: str | None = None
    target: str | None = None
    level: Literal["error", "warn"] = "error"
    value: float | None = Field(None, description="None where the metric could not be had")
    low: float | None = None
    high: float | None = None
    outcome: Outcome
    reason: str = Field(description="one sentence with the numbers, for people")


class Verdict(BaseModel):
    """All budgets of a recipe. It fails if an error-level budget fails.

    ``evidence`` says why the measurement itself can carry no verdict, whatever the budgets: the
    machine was throttled half way, or is not the one that the baseline was measured on.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_: Literal["rarefy.verdict/2"] = Field(default=SCHEMA, alias="schema")
    outcome: Outcome
    budgets: list[BudgetResult]
    evidence: list[str] = Field(default_factory=list)

    @property
    def missed(self) -> list[str]:
        """The reasons of the budgets that make it fail."""
        return [b.reason for b in self.budgets if b.outcome == "fail" and b.level == "error"]

    def exit_code(self, strict: bool) -> int:
        """0 pass; 3 a budget was missed; 4 no verdict: never without evidence, else if strict."""
        if self.outcome == "fail":
            return BudgetError.exit_code
        if self.evidence or (strict and self.outcome == "inconclusive"):
            return EvidenceError.exit_code
        return 0
