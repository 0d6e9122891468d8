"""The readable form of a plan: a table in a terminal and in a notebook, or JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from rarefy.flows.console.options import Shown, as_text, plain_table
from rarefy.pipeline.run import check_machine, evidence, last_runs, scoring
from rarefy.pipeline.run.last_runs import LastRun
from rarefy.pipeline.run.plan.plan import Plan, Planned
from rarefy.pipeline.terms.wording import duration, quantity
from rarefy.pipeline.verdict.power import Need

COLUMNS = ("step", "stage", "output", "", "time", "memory", "last run")
UNKNOWN = "unknown"
"""What is said of a step that has not run on this machine."""


@dataclass(frozen=True)
class PlanView(Shown):
    """The steps of a plan, what their last runs took, and the eval rows for the budgets.

    ``unscored``: the cached steps that have yet to be scored, for example on another eval split.
    ``last_runs``: the last run of each step that is not cached, if there was one on this machine.
    ``lacking``: why `rarefy run` would be refused on this machine; the plan may be for another.
    """

    plan: Plan
    steps: list[Planned]
    needs: list[Need]
    unscored: frozenset[str]
    last_runs: dict[str, LastRun]
    lacking: list[str]

    @classmethod
    def from_plan(cls, plan: Plan, last_folder: Path) -> PlanView:
        """Plan all steps; ``last_folder`` is that of the recipe's last run, which need not exist.

        Raises ProviderError if a step certainly does not fit this machine's disk or memory.
        """
        steps = plan.steps()
        check_machine.check_size(plan, steps)
        unscored: set[str] = set()
        runs: dict[str, LastRun] = {}
        for step in steps:
            if step.artifact is None:
                run = last_runs.find(plan, step.id)
                if run is not None:
                    runs[step.id] = run
            elif scoring.missing(plan, step.artifact):
                unscored.add(step.id)
        needs = evidence.needs(plan, last_folder)
        lacking = check_machine.lacking(plan, steps)
        return cls(plan, steps, needs, frozenset(unscored), runs, lacking)

    @property
    def notes(self) -> list[str]:
        """All warnings, and how many eval rows each margin needs."""
        return self.warnings + [need.text for need in self.needs]

    @property
    def warnings(self) -> list[str]:
        """What this machine lacks, and warnings about the data and the model."""
        return self.lacking + self.plan.warnings

    @property
    def doubts(self) -> list[str]:
        """Those of the warnings that no one may overlook."""
        return self.lacking + self.plan.doubts

    @property
    def summary(self) -> str:
        """The rows of each split and the labels, if there are any."""
        rows = self.plan.summary.rows
        counts = [f"{count} {split}" for split, count in rows.items()]
        splits = ", ".join(counts)
        summary = f"data: {splits} rows"
        if self.plan.labels:
            labels = ", ".join(self.plan.labels)
            summary += f"; labels: {labels}"
        return summary

    def rows(self) -> list[list[str]]:
        """Return a row for each step, in the order of ``COLUMNS``."""
        rows = []
        for step in self.steps:
            identity = [step.id, step.stage.name, str(step.kind), self._state(step)]
            rows.append([*identity, *self._measurements(step)])
        return rows

    def _state(self, step: Planned) -> str:
        if not step.cached:
            return "to run"
        return "to score" if step.id in self.unscored else "cached"

    def _measurements(self, step: Planned) -> list[str]:
        """Return time, memory and origin of a step's last run as text; empty if it is cached."""
        if step.cached:
            return ["", "", ""]
        run = self.last_runs.get(step.id)
        if run is None:
            return [UNKNOWN, "", ""]
        origin = last_runs.origin(self.plan, step.id, run)
        memory = quantity(run.memory, "B") if run.memory else ""
        return [duration(run.seconds), memory, origin]

    def table(self) -> Table:
        table = plain_table(*COLUMNS, whole=("step",))
        for row in self.rows():
            table.add_row(*row)
        return table

    def as_json(self) -> dict[str, Any]:
        """Return the values that ``rarefy plan --json`` prints."""
        return {
            "steps": [self._step_json(step) for step in self.steps],
            "rows": self.plan.summary.rows,
            "labels": self.plan.labels,
            "warnings": self.warnings,
            "evidence": [_need_json(need) for need in self.needs],
        }

    def _step_json(self, step: Planned) -> dict[str, Any]:
        last_run = None
        if step.id in self.last_runs:
            last_run = self._run_json(step.id, self.last_runs[step.id])
        return {
            "id": step.id,
            "stage": step.stage.name,
            "kind": step.kind,
            "cached": step.cached,
            "state": self._state(step),
            "digest": step.artifact.digest if step.artifact else None,
            "last_run": last_run,
        }

    def _run_json(self, identifier: str, run: LastRun) -> dict[str, Any]:
        return {
            "of": last_runs.origin(self.plan, identifier, run),
            "seconds": run.seconds,
            "memory_bytes": run.memory,
        }

    def __repr__(self) -> str:
        lines = [as_text(self.table()), self.summary]
        for note in self.notes:
            lines.append(f"note: {note}")
        return "\n".join(lines)


def _need_json(need: Need) -> dict[str, Any]:
    return {
        "budget": need.budget.metric,
        "against": need.budget.against,
        "needed": need.needed,
        "rows": need.rows,
        "enough": need.enough,
        "text": need.text,
    }
