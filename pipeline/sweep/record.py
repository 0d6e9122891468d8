"""The record of a sweep, from which its page is rendered."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.sweep import pareto
from pipeline.sweep.branch import Branch
from pipeline.terms.interval import Interval

SCHEMA: Final = "rarefy.sweep/1"


class Answer(BaseModel):
    """The answer to a question. ``branch`` is None if no branch meets its limits.

    ``accuracy`` and ``outcome`` are those of the chosen branch's own run, on the eval
    rows, which had no part in the choice; None if it was not run.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    question: str
    branch: str | None = None
    recipe: str | None = Field(
        default=None, description="the file of its recipe, from the sweep's folder"
    )
    report: str | None = Field(
        default=None, description="the report of its run, in the sweep's folder"
    )
    accuracy: Interval | None = None
    outcome: str | None = None
    missed: list[str] = Field(default_factory=list)


class SweepRecord(BaseModel):
    """A sweep from its file to the answers."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_: Literal["rarefy.sweep/1"] = Field(default=SCHEMA, alias="schema")
    name: str
    command: str
    threads: int = Field(description="of a branch, on which its results depend")
    device: str
    recipe: str
    target: str
    vary: dict[str, Any]
    branches: list[Branch]
    answers: list[Answer] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list, description="what the answers do not tell")
    seconds: float = Field(description="of all branches' steps that were not found in the store")
    machine: dict[str, Any]

    @property
    def front(self) -> list[Branch]:
        """The branches that no other is better than."""
        return pareto.front(self.branches)

    def branch(self, name: str | None) -> Branch | None:
        """Return a branch by its name, None if there is none."""
        names = {branch.name: branch for branch in self.branches}
        return names.get(name or "")
