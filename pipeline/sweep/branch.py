"""Branches: what is known of each variant, on disk, so that a sweep that was stopped goes on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.report.wording import score
from pipeline.store import disk
from pipeline.sweep.questions import Goal
from pipeline.sweep.sweep_file import Stop, Sweep
from pipeline.terms.errors import IntegrityError, RecipeError
from pipeline.terms.interval import Interval

State = Literal["waiting", "running", "done", "stopped", "failed"]
SCHEMA: Final = "rarefy.branch/1"
SETTINGS: Final = "settings.json"
"""The file with the threads and the device that all branches have."""
TRIALS: Final = "trials.json"
"""The file with the variants that a search has asked for."""


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
    metric: str | None = None
    accuracy: Interval | None = None
    size: int | None = None
    bundle: str | None = Field(
        default=None, description="the digest of the bundle that it delivers"
    )
    latency: Interval | None = None
    started: str | None = None
    ended: str | None = None
    worker: str | None = Field(default=None, description="the process that ran it, as host:pid")

    @property
    def complete(self) -> bool:
        """Whether it can be chosen: it is done and everything was measured."""
        return self.state == "done" and None not in (self.accuracy, self.size, self.latency)

    def cost(self, goal: Goal) -> float:
        """Return what is to be small: the size, the latency or the accuracy's negative.

        Infinite if it is unknown.
        """
        if goal == "accuracy":
            return -self.accuracy.value if self.accuracy else float("inf")
        if goal == "latency":
            return self.latency.value if self.latency else float("inf")
        return float("inf") if self.size is None else self.size


class Folder:
    """The folder of a sweep: one file for each branch, written whole."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._branches = root / "branches"

    def open(self, sweep: Sweep) -> None:
        """Create the folder. Raises RecipeError if it has the branches of another sweep.

        Also if ``vary`` is in another order, in which its branches would have other names. A sweep
        that was edited before any branch began starts anew.
        """
        self._branches.mkdir(parents=True, exist_ok=True)
        mark = self.root / "sweep-digest.json"
        if not any(self._branches.iterdir()):  # new, or nothing of it could run and it was mended
            if mark.exists() and disk.read(mark, "digest") != sweep.digest:
                for name in (TRIALS, SETTINGS):  # of the sweep as it was
                    disk.remove(self.root / name)
            disk.write(mark, {"digest": sweep.digest})
        if not mark.exists():
            raise IntegrityError(f"{mark}: the file is missing; delete {self.root}")
        if disk.read(mark, "digest") != sweep.digest:
            raise RecipeError(
                f"{self.root} has the branches of another sweep, or of other values of this one; "
                "give another --out, or delete it (what its branches made stays in the store)"
            )
        for branch in self.branches()[:1]:  # all have their values in one order
            if list(branch.values) != list(sweep.file.vary):
                raise RecipeError(
                    f"{self.root} has branches named in the order {', '.join(branch.values)}; put "
                    "'vary' in this order again, give another --out, or delete it (what its "
                    "branches made stays in the store)"
                )

    def keep(self, branch: Branch) -> None:
        """Write what is known of a branch."""
        path = self._branches / f"{branch.name}.json"
        disk.write_text(path, branch.model_dump_json(by_alias=True, indent=1) + "\n")

    def branches(self) -> list[Branch]:
        """Return all branches by name. Raises IntegrityError if a file is damaged."""
        names = [path.stem for path in sorted(self._branches.glob("*.json"))]
        # A file whose name begins with a dot is being written.
        found = [self.branch(name) for name in names if not name.startswith(".")]
        return [branch for branch in found if branch is not None]

    def branch(self, name: str) -> Branch | None:
        """Return a branch, None if nothing is known of it."""
        path = self._branches / f"{name}.json"
        try:
            return Branch.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise IntegrityError(f"{path}: the file is damaged; delete it") from None


def hopeless(stops: Sequence[Stop], branch: Branch, others: Iterable[Branch]) -> str | None:
    """Return why a branch is not worth going on after its last step, None if it may be."""
    if not branch.steps or branch.steps[-1].accuracy is None:
        return None
    last, reached = branch.steps[-1], branch.steps[-1].accuracy.value
    for stop in stops:
        if stop.after != last.id:
            continue
        if stop.min_accuracy is not None and reached < stop.min_accuracy:
            least = score(stop.min_accuracy, branch.metric)
            return f"{score(reached, branch.metric)} after {last.id}; at least {least}"
        rivals = [
            step.accuracy.value
            for other in others
            for step in other.steps
            if other.name != branch.name and step.id == last.id and step.accuracy is not None
        ]
        best = max(rivals, default=reached)
        if stop.points is not None and reached < best - stop.points:
            points = f"{100 * stop.points:g}"
            return (
                f"{score(reached, branch.metric)} after {last.id}, more than {points} "
                f"{'point' if points == '1' else 'points'} below the best "
                f"({score(best, branch.metric)})"
            )
    return None
