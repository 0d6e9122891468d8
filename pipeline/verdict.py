"""Budgets against measurements: pass, fail or inconclusive, each with its reason."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Outcome = Literal["pass", "fail", "inconclusive"]
SCHEMA = "rarefy.verdict/1"


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
    """All budgets of a recipe. It fails if an error-level budget fails."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_: Literal["rarefy.verdict/1"] = Field(default=SCHEMA, alias="schema")
    outcome: Outcome
    budgets: list[BudgetResult]
