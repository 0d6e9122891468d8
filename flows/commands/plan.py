"""``rarefy plan``: what would run, what is done already, and what the evidence could carry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from flows.options import (
    Home,
    device_option,
    home_option,
    json_option,
    recipe_argument,
    show_json,
    stdout,
)

if TYPE_CHECKING:
    from pipeline.engine import Run

DISAGREEMENT = 0.08
"""The share of rows on which a compressed model usually differs from its teacher."""


@click.command(short_help="Say what would run and what is cached, without running it.")
@recipe_argument
@device_option
@home_option
@json_option
def plan(recipe: Path, device: str, home: Home, as_json: bool) -> None:
    """Check RECIPE, its data and its model, and say what `rarefy run` would do.

    Also says whether the eval split has rows enough for the budgets' margins.

    Example: `rarefy plan demo.yaml`
    """
    from rich.table import Table

    from pipeline import recipe as recipes
    from pipeline.engine import Run

    run = Run(recipes.load(recipe), home.store(), device)
    planned = run.plan()
    evidence = evidence_notes(run)
    if as_json:
        show_json(
            {
                "steps": [
                    {
                        "id": step.id,
                        "stage": step.stage.name,
                        "kind": step.kind,
                        "cached": step.cached,
                        "digest": step.artifact.digest if step.artifact else None,
                    }
                    for step in planned
                ],
                "rows": run.summary.rows,
                "labels": run.labels,
                "warnings": run.warnings,
                "evidence": evidence,
            }
        )
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("step", "stage", "gives", "", "artifact"):
        table.add_column(column)
    for step in planned:
        state = "cached" if step.cached else "to run"
        digest = step.artifact.short if step.artifact else ""
        table.add_row(step.id, step.stage.name, step.kind, state, digest)
    console = stdout()
    console.print(table)
    rows = ", ".join(f"{count} {name}" for name, count in run.summary.rows.items())
    console.print(f"\ndata: {rows} rows; labels: {', '.join(run.labels)}")
    for note in run.warnings + [item["text"] for item in evidence]:
        console.print(f"note: {note}")


def evidence_notes(run: Run) -> list[dict[str, Any]]:
    """Say for each accuracy margin how many rows it needs: 80 % power at the usual disagreement."""
    from pipeline.measure.statistics import required_rows

    rows = run.summary.rows["eval"]
    notes = []
    for budget in run.loaded.recipe.budgets:
        if budget.form not in ("max_drop", "min_retained"):
            continue
        margin = budget.limit if budget.form == "max_drop" else 1 - budget.limit
        if margin <= 0:
            continue
        needed = required_rows(margin, DISAGREEMENT)
        enough = rows >= needed
        text = (
            f"{budget.metric} {budget.form}: a margin of {margin:.1%} needs about {needed} "
            f"eval rows (if {DISAGREEMENT:.0%} of the answers differ); there are {rows}"
            + ("" if enough else ": expect 'inconclusive'")
        )
        notes.append({"budget": budget.metric, "needed": needed, "rows": rows, "text": text})
    return notes
