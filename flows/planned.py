"""A plan as people look at it: a table in a terminal, HTML in a notebook, plain values as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from rich.table import Table

from flows.display import as_text
from pipeline.run import evidence
from pipeline.run.plan import Plan, Planned
from pipeline.verdict.power import Need

COLUMNS = ("step", "stage", "gives", "", "artifact")


@dataclass(frozen=True)
class PlanView:
    """What would run, what is cached, and whether the eval split can carry the budgets."""

    plan: Plan
    steps: list[Planned]
    needs: list[Need]

    @classmethod
    def of(cls, plan: Plan, last: Path) -> PlanView:
        """Plan all steps; ``last`` is the folder of the recipe's last run, which need not exist."""
        steps = plan.steps()
        return cls(plan, steps, evidence.needs(plan, last))

    @property
    def notes(self) -> list[str]:
        """Warnings about the data, and how many eval rows each margin needs."""
        return self.plan.warnings + [need.text for need in self.needs]

    @property
    def summary(self) -> str:
        """The rows of each split and the labels."""
        rows = ", ".join(f"{count} {name}" for name, count in self.plan.summary.rows.items())
        return f"data: {rows} rows; labels: {', '.join(self.plan.labels)}"

    def rows(self) -> list[list[str]]:
        """Return a row for each step, in the order of ``COLUMNS``."""
        return [
            [
                step.id,
                step.stage.name,
                str(step.kind),
                "cached" if step.cached else "to run",
                step.artifact.short if step.artifact else "",
            ]
            for step in self.steps
        ]

    def table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in COLUMNS:
            table.add_column(column)
        for row in self.rows():
            table.add_row(*row)
        return table

    def as_json(self) -> dict[str, Any]:
        """Return what ``rarefy plan --json`` prints."""
        return {
            "steps": [
                {
                    "id": step.id,
                    "stage": step.stage.name,
                    "kind": step.kind,
                    "cached": step.cached,
                    "digest": step.artifact.digest if step.artifact else None,
                }
                for step in self.steps
            ],
            "rows": self.plan.summary.rows,
            "labels": self.plan.labels,
            "warnings": self.plan.warnings,
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


def html_table(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    """Return an HTML table; all texts are escaped."""

    def line(cells: tuple[str, ...] | list[str], tag: str) -> str:
        shown = "".join(f"<{tag} style='text-align:left'>{escape(c)}</{tag}>" for c in cells)
        return f"<tr>{shown}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(columns, 'th')}</thead><tbody>{body}</tbody></table>"
