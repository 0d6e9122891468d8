"""Branches: what is known of each variant, on disk, so that an interrupted sweep continues."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.report import wording
from pipeline.store import disk
from pipeline.sweep.questions import Goal
from pipeline.sweep.sweep_file import Stop
from pipeline.terms.errors import IntegrityError
from pipeline.terms.interval import Interval

State = Literal["waiting", "running", "done", "stopped", "failed"]
ENDED: Final = ("done", "stopped", "failed")
STATES: Final = (*ENDED, "running", "waiting")
SCHEMA: Final = "rarefy.branch/1"


class StepRow(BaseModel):
    """A finished step of a branch. ``accuracy``: its model's on the development rows."""

    model_config = ConfigDict(extra="forbid")

    id: str
    digest: str
    cached: bool = Field(description="found in the store, made by another branch or earlier")
    seconds: float
    accuracy: Interval | None = None


class Branch(BaseModel):
    """A variant and what became of it.

    ``accuracy``: the main metric of its bundle, or last model, on the development rows.
    ``latency``: the median of the bundle in ms, on the recipe's first target; ``size`` in bytes.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_: Literal["rarefy.branch/1"] = Field(default=SCHEMA, alias="schema")
    name: str
    values: dict[str, Any]
    state: State = "waiting"
    step: str | None = Field(default=None, description="the step that runs, or ran last")
    steps: list[StepRow] = Field(default_factory=list)
    why: str | None = Field(
        default=None, description="why it was stopped or failed, in one sentence"
    )
    rows: str | None = Field(
        default=None, description="the digest of the development rows that it is scored on"
    )
    metric: str | None = None
    accuracy: Interval | None = None
    size: int | None = None
    bundle: str | None = Field(
        default=None, description="the digest of the bundle that it delivers"
    )
    latency: Interval | None = None
    worker: str | None = Field(default=None, description="the process that ran it, as host:pid")

    @property
    def complete(self) -> bool:
        """Whether it can be chosen: it is done and everything was measured."""
        return self.state == "done" and None not in (self.accuracy, self.size, self.latency)

    @property
    def seconds(self) -> float:
        """The seconds of the steps that it made, and did not find in the store."""
        return sum(step.seconds for step in self.steps if not step.cached)

    @property
    def facts(self) -> str:
        """What was measured of it, in words."""
        facts = []
        if self.accuracy is not None:
            score = wording.score(self.accuracy.value, self.metric)
            facts.append(f"{self.metric} {score} on dev")
        if self.latency is not None:
            facts.append(wording.milliseconds(self.latency.value))
        if self.size is not None:
            facts.append(wording.size(self.size))
        return "; ".join(facts)

    def cost(self, goal: Goal) -> float:
        """Return what is to be small: the size, the latency or the accuracy's negative.

        Infinite if it is unknown.
        """
        if goal == "accuracy" and self.accuracy is not None:
            return -self.accuracy.value
        if goal == "latency" and self.latency is not None:
            return self.latency.value
        if goal == "size" and self.size is not None:
            return self.size
        return math.inf


class Folder:
    """The records of a sweep's branches: one file for each, written whole."""

    def __init__(self, root: Path) -> None:
        self._records = root / "branches"

    def write(self, branch: Branch) -> None:
        """Write what is known of a branch."""
        self._records.mkdir(parents=True, exist_ok=True)
        text = branch.model_dump_json(by_alias=True, indent=1)
        disk.write_text(self._records / f"{branch.name}.json", text)

    def branches(self) -> list[Branch]:
        """Return all branches by name. Raises IntegrityError if a file is damaged."""
        branches = []
        for path in sorted(self._records.glob("[!.]*.json")):  # with a dot, it is being written
            branch = self.branch(path.stem)
            if branch is not None:
                branches.append(branch)
        return branches

    def branch(self, name: str) -> Branch | None:
        """Return a branch, None if nothing is known of it."""
        path = self._records / f"{name}.json"
        try:
            return Branch.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise IntegrityError(f"{path}: the file is damaged; delete it") from None


def hopeless(stops: Sequence[Stop], branch: Branch, others: Iterable[Branch]) -> str | None:
    """Return why a branch is not worth going on after its last step, None if it may be.

    Args:
        stops: The sweep's rules.
        branch: The branch, up to the step that was finished last.
        others: The branches that it is compared with; itself may be among them.
    """
    for stop in stops:
        *_, last = branch.steps
        if stop.after != last.id or last.accuracy is None:
            continue
        value = last.accuracy.value
        least = stop.least(max([value, *_scores(last.id, others)]))
        if value < least:
            reached = wording.score(value, branch.metric)
            limit = wording.score(least, branch.metric)
            return f"{reached} after {last.id}; at least {limit} {stop.words}"
    return None


def _scores(step: str, branches: Iterable[Branch]) -> list[float]:
    """Return the scores that branches reached at a step."""
    rows = [row for branch in branches for row in branch.steps if row.id == step]
    return [row.accuracy.value for row in rows if row.accuracy is not None]
