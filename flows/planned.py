"""The readable form of a plan: a table in a terminal, HTML in a notebook, or JSON."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from rich.table import Table

from flows.display import as_text
from pipeline.run import evidence, providers, resources
from pipeline.run.plan import Plan, Planned
from pipeline.run.resources import Needed
from pipeline.stage.resources import Span
from pipeline.verdict.power import Need

COLUMNS = ("step", "stage", "output", "", "disk", "memory", "time", "artifact")


@dataclass(frozen=True)
class PlanView:
    """The steps of a plan, which are cached, what they need, and the eval rows for the budgets."""

    plan: Plan
    steps: list[Planned]
    needs: list[Need]
    resources: dict[str, Needed]
    lacking: list[str]
    """Why `rarefy run` would be refused on this machine; the plan may be for another."""

    @classmethod
    def of(cls, plan: Plan, last: Path) -> PlanView:
        """Plan all steps; ``last`` is the folder of the recipe's last run, which need not exist.

        Raises ProviderError if a step certainly does not fit this machine's disk or memory.
        """
        steps = plan.steps()
        needed = resources.of(plan, steps)
        resources.check(plan, steps, needed)
        needed |= resources.of_scoring(plan, steps)
        needs, lacking = evidence.needs(plan, last), providers.lacking(plan, steps)
        return cls(plan, steps, needs, needed, lacking)

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
        rows = ", ".join(f"{count} {name}" for name, count in self.plan.summary.rows.items())
        labels = f"; labels: {', '.join(self.plan.labels)}" if self.plan.labels else ""
        return f"data: {rows} rows{labels}"

    def rows(self) -> list[list[str]]:
        """Return a row for each step, in the order of ``COLUMNS``."""
        return [
            [
                step.id,
                step.stage.name,
                str(step.kind),
                self._state(step),
                *self._needed(step),
                step.artifact.short if step.artifact else "",
            ]
            for step in self.steps
        ]

    def _state(self, step: Planned) -> str:
        if not step.cached:
            return "to run"
        return "to score" if step.id in self.resources else "cached"

    def _needed(self, step: Planned) -> list[str]:
        """Return the disk, memory and time of a step as text; empty if there is nothing to do."""
        needed = self.resources.get(step.id)
        if needed is None:
            return ["", "", ""]
        if step.cached:
            return ["", "", duration(needed.seconds)]
        disk, memory = needed.resources.disk, needed.resources.memory
        return [span(disk), span(memory), duration(needed.seconds)]

    def table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in COLUMNS:
            table.add_column(column, no_wrap=column in ("step", "artifact"))
        for row in self.rows():
            table.add_row(*row)
        return table

    def as_json(self) -> dict[str, Any]:
        """Return the values that ``rarefy plan --json`` prints."""
        return {
            "steps": [
                {
                    "id": step.id,
                    "stage": step.stage.name,
                    "kind": step.kind,
                    "cached": step.cached,
                    "digest": step.artifact.digest if step.artifact else None,
                    "needs": needs_json(self.resources.get(step.id)),
                }
                for step in self.steps
            ],
            "rows": self.plan.summary.rows,
            "labels": self.plan.labels,
            "warnings": self.warnings,
            "evidence": [
                {
                    "budget": need.budget.metric,
                    "against": need.budget.against,
                    "needed": need.needed,
                    "rows": need.rows,
                    "enough": need.enough,
                    "text": need.text,
                }
                for need in self.needs
            ],
        }

    def __repr__(self) -> str:
        notes = "".join(f"\nnote: {note}" for note in self.notes)
        return f"{as_text(self.table())}\n{self.summary}{notes}"

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return f"{html_table(COLUMNS, self.rows())}<p>{escape(self.summary)}</p><ul>{notes}</ul>"


def span(found: Span | None) -> str:
    """Return bytes in MB or GB: ``1.2 GB``, ``0.2–1.3 GB``, ``≤ 1.3 GB``, or ``unknown``."""
    if found is None:
        return "unknown"
    unit, size = ("GB", 1e9) if found.most >= 1e9 else ("MB", 1e6)
    least, most = (f"{value / size:.1f}" for value in (found.least, found.most))
    if least == most:
        return f"{most} {unit}"
    return f"≤ {most} {unit}" if least == "0.0" else f"{least}–{most} {unit}"


def duration(seconds: float | None) -> str:
    """Return a time in seconds, minutes or hours, or ``unknown``."""
    if seconds is None:
        return "unknown"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def needs_json(needed: Needed | None) -> dict[str, Any] | None:
    """Return what a step needs: bytes as [least, most], and seconds; None if unknown."""
    if needed is None:
        return None
    found = needed.resources
    return {
        "disk_bytes": found.disk and [found.disk.least, found.disk.most],
        "memory_bytes": found.memory and [found.memory.least, found.memory.most],
        "seconds": needed.seconds,
    }


def html_table(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    """Return an HTML table with all text escaped."""

    def line(cells: tuple[str, ...] | list[str], tag: str) -> str:
        shown = "".join(f"<{tag} style='text-align:left'>{escape(c)}</{tag}>" for c in cells)
        return f"<tr>{shown}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(columns, 'th')}</thead><tbody>{body}</tbody></table>"
