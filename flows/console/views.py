"""The readable form of a plan: a table in a terminal and in a notebook, or JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from rarefy.flows.console.options import Shown, as_text, plain_table
from rarefy.flows.workloads import workload
from rarefy.pipeline.data import corpus
from rarefy.pipeline.run import checks, estimate, scoring
from rarefy.pipeline.run.estimate import LastRun
from rarefy.pipeline.run.plan.plan import Plan, Planned
from rarefy.pipeline.store.home import HISTORY, Home
from rarefy.pipeline.terms.recipe_parts import CANDIDATE
from rarefy.pipeline.terms.wording import about, duration, quantity
from rarefy.pipeline.verdict import candidates
from rarefy.pipeline.verdict.power import CellNeeds, Need
from rarefy.stages.validate import Validate

COLUMNS = ("step", "stage", "output", "", "time", "memory", "last run")
UNKNOWN = "unknown"
"""What is said of a step that has not run on this machine."""


@dataclass(frozen=True)
class PlanView(Shown):
    """The steps of a plan, what their last runs took, and the eval rows for the budgets.

    ``times``: what the budgets on latencies may leave open.
    ``unscored``: the cached steps that have yet to be scored, for example on another eval split.
    ``last_runs``: the last run of each step that is not cached, if there was one on this machine.
    ``estimates``: seconds of those steps that are not cached and have not run here in this recipe.
    ``changes``: what has changed since the last run of a step of this recipe that runs again.
    ``candidates``: how many have been judged on these eval rows.
    ``throughput``: what will be measured of it, on each target where somebody asks for it.
    ``lacking``: why `rarefy run` would be refused on this machine; the plan may be for another.
    """

    plan: Plan
    steps: list[Planned]
    needs: list[Need | CellNeeds]
    times: list[str]
    unscored: frozenset[str]
    last_runs: dict[str, LastRun]
    estimates: dict[str, float]
    lacking: list[str]
    changes: dict[str, list[str]]
    throughput: list[str]
    candidates: int = 0

    @classmethod
    def from_plan(cls, plan: Plan, home: Home) -> PlanView:
        """Plan all steps; ``home`` has the recipe's last run and the history, if there are any.

        Raises ProviderError if a step certainly does not fit this machine's disk or memory.
        """
        steps = plan.steps()
        checks.check_size(plan, steps)
        unscored: set[str] = set()
        runs: dict[str, LastRun] = {}
        for step in steps:
            if step.artifact is None:
                run = estimate.last_run(plan, step.id)
                if run is not None:
                    runs[step.id] = run
            elif scoring.missing(plan, step.artifact):
                unscored.add(step.id)
        estimates = {}
        found = estimate.of_steps(plan, steps, workload)
        for identifier, seconds in found.seconds.items():
            run = runs.get(identifier)
            if run is None or not estimate.is_of_step(plan, identifier, run):
                estimates[identifier] = seconds
        throughput: list[str] = []
        for step in steps:
            if isinstance(step.stage, Validate) and not step.cached:
                source = plan.loaded.step(step.id).input
                sizes = found.weights | {CANDIDATE: found.weights.get(source, 0.0)}
                rows = {name: estimate.seconds_of_row(plan, sizes[name]) for name in sizes}
                sentences = step.stage.plan_throughput(plan.requirements, rows)
                throughput += sentences
                if step.id in estimates:
                    estimates[step.id] += sum(sentences.values())
        earlier = None
        last_folder = home.runs / plan.loaded.recipe.name
        if last_folder.is_dir():
            from rarefy.pipeline.run import folder  # which reads what a whole run has left

            earlier = folder.last_measurements(last_folder)
        needs = checks.needed_rows(plan, earlier)
        times = checks.time_notes(plan, earlier, home.path / HISTORY)
        lacking = checks.lacking(plan, steps)
        changes = _changes(plan, steps, runs)
        judged = 0
        if plan.budgets:
            judged = candidates.number_of(home.path / HISTORY, corpus.digest(plan.sources))
        return cls(
            plan,
            steps,
            needs,
            times,
            frozenset(unscored),
            runs,
            estimates,
            lacking,
            changes,
            throughput,
            judged,
        )

    @property
    def notes(self) -> list[str]:
        """All warnings, and what the budgets need, may leave open and are measured by."""
        notes = self.warnings + [need.text for need in self.needs] + self.times + self.throughput
        notes += filter(None, [candidates.sentence(self.candidates)])
        for identifier, phrases in self.changes.items():
            changed = ", ".join(phrases)
            notes.append(f"{identifier} runs again, as this has changed: {changed}")
        for identifier, run in self.last_runs.items():
            if run.lasts or identifier in self.changes:
                continue
            if estimate.is_of_step(self.plan, identifier, run):
                reason = "its last result was not kept, like those of a disturbed machine"
                notes.append(f"{identifier} runs again, as {reason}")
        return notes

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
        counts = []
        for split, count in rows.items():
            counts.append(f"{count} {split}")
        splits = ", ".join(counts)
        summary = f"data: {splits} rows"
        if self.plan.labels:
            labels = ", ".join(self.plan.labels)
            summary += f"; labels: {labels}"
        return summary

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of each step that is not cached, as its last run took or as estimated."""
        seconds = dict(self.estimates)
        for identifier, run in self.last_runs.items():
            seconds.setdefault(identifier, run.seconds)
        return seconds

    @property
    def time(self) -> str:
        """How long the run will take, and how that is known; "" if all steps are cached."""
        known = self.seconds
        unknown = []
        for step in self.steps:
            if not step.cached and step.id not in known:
                unknown.append(step.id)
        if not known:
            return ""
        total = sum(known.values())
        text = f"time: {about(total)}"
        if unknown:
            names = ", ".join(unknown)
            text += f" without {names}"
        if self.estimates:
            text += f"; {estimate.HOW}"
        return text

    def rows(self) -> list[list[str]]:
        """Return a row for each step, in the order of ``COLUMNS``."""
        rows = []
        for step in self.steps:
            state = self._state(step)
            identity = [step.id, step.stage.name, str(step.kind), state]
            measurements = self._measurements(step)
            rows.append(identity + measurements)
        return rows

    def _state(self, step: Planned) -> str:
        if not step.cached:
            return "to run"
        return "to score" if step.id in self.unscored else "cached"

    def _measurements(self, step: Planned) -> list[str]:
        """Return time, memory and origin of a step's last run as text; empty if it is cached."""
        if step.cached:
            return ["", "", ""]
        if step.id in self.estimates:
            return [about(self.estimates[step.id]), "", ""]
        run = self.last_runs.get(step.id)
        if run is None:
            return [UNKNOWN, "", ""]
        origin = estimate.origin_of(self.plan, step.id, run)
        memory = ""
        if run.memory:
            memory = quantity(run.memory, "B")
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
            "seconds": sum(self.seconds.values()),
            "rows": self.plan.summary.rows,
            "labels": self.plan.labels,
            "warnings": self.warnings,
            "evidence": [_need_json(need) for need in self.needs],
            "candidates": self.candidates,
            "times": self.times,
            "throughput": self.throughput,
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
            "changes": self.changes.get(step.id, []),
            "estimated_seconds": self.estimates.get(step.id),
        }

    def _run_json(self, identifier: str, run: LastRun) -> dict[str, Any]:
        return {
            "of": estimate.origin_of(self.plan, identifier, run),
            "seconds": run.seconds,
            "memory_bytes": run.memory,
            "lasts": run.lasts,
        }

    def __repr__(self) -> str:
        lines = [as_text(self.table()), self.summary]
        if self.time:
            lines.append(self.time)
        for note in self.notes:
            lines.append(f"note: {note}")
        return "\n".join(lines)


def _changes(plan: Plan, steps: list[Planned], runs: dict[str, LastRun]) -> dict[str, list[str]]:
    """Return what has changed since the last runs of this recipe's steps whose inputs are there."""
    known = {}
    changes = {}
    for step in steps:
        if step.artifact is not None:
            known[step.id] = step.artifact
            continue
        run = runs.get(step.id)
        if run is None or not estimate.is_of_step(plan, step.id, run):
            continue
        dependencies = plan.dependencies(step.id, known)
        if dependencies is not None:
            changes[step.id] = estimate.changes_since(run, dependencies)
    return {identifier: phrases for identifier, phrases in changes.items() if phrases}


def _need_json(need: Need | CellNeeds) -> dict[str, Any]:
    cells = {}
    if isinstance(need, CellNeeds):
        for name, (rows, needed) in need.by_cell.items():
            cells[name] = {"rows": rows, "needed": needed, "enough": rows >= needed}
    return {
        "budget": need.budget.metric,
        "cell": need.budget.cell,
        "cells": cells,
        "against": need.budget.against,
        "needed": need.needed,
        "rows": need.rows,
        "enough": need.enough,
        "text": need.text,
    }
