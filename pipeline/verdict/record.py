"""The record of a run, from which every report format is rendered."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from rarefy.pipeline.measure.measurements import Measurements
from rarefy.pipeline.store.artifact import Curve
from rarefy.pipeline.verdict.verdict import Verdict

SCHEMA: Final = "rarefy.run/1"
UNKNOWN: Final = "0001-01-01T00:00:00.000+00:00"
"""The time of measurements if it is not known: before all others, so that they outrank none."""


class LedgerRow(BaseModel):
    """One finished stage; ``accuracy`` is (value, low, high) of the main metric on eval.

    ``note`` says that the model has learned nothing.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    stage: str
    kind: str
    digest: str
    cached: bool
    seconds: float
    metric: str | None = None
    accuracy: tuple[float, float, float] | None = None
    rows: int | None = None
    parameters: int | None = None
    size: int
    note: str | None = None


class LineageNode(BaseModel):
    """One artifact of the run, and the digests of its parents with their roles."""

    model_config = ConfigDict(extra="forbid")

    id: str
    stage: str
    version: int
    digest: str
    kind: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    parents: dict[str, str] = Field(default_factory=dict, description="digest -> role")
    metrics: list[dict[str, Any]] = Field(default_factory=list)
    curves: dict[str, Curve] = Field(
        default_factory=dict,
        description="the losses of its trainings, by name",
        exclude_if=lambda curves: not curves,
    )


class ReportData(BaseModel):
    """A run from recipe to verdict."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_: Literal["rarefy.run/1"] = Field(default=SCHEMA, alias="schema")
    name: str
    created: str = Field(description="ISO 8601, UTC")
    measured_at: str | None = Field(
        default=None,
        description="when the measurements ended, in the year 1 if that is not known; None "
        "without measurements",
    )
    command: str = Field(description="the command that reproduces the run")
    recipe: str = Field(description="the recipe's text")
    task: str
    labels: list[str]
    rows: dict[str, int]
    warnings: list[str] = Field(default_factory=list)
    absent: list[str] = Field(
        default_factory=list, description="tags that did not exist yet, as at a first release"
    )
    ledger: list[LedgerRow]
    lineage: list[LineageNode]
    verdict: Verdict | None = None
    measurements: Measurements | None = None
    machine: dict[str, Any]

    @property
    def measured(self) -> str:
        """When the measurements ended, as ISO 8601; the record's own time without any."""
        return self.measured_at or self.created
