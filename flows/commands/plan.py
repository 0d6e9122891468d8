"""``rarefy plan``: what would run, what is done already, and what the evidence could carry."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from flows.options import (
    device_option,
    first_option,
    home_option,
    json_option,
    recipe_argument,
    show_json,
    stdout,
)
from pipeline.store.home import Home


@click.command(short_help="Say what would run and what is cached, without running it.")
@recipe_argument
@click.option("--baseline", metavar="TAG", help="As `rarefy ci` would be asked: TAG, or URL#TAG.")
@first_option
@device_option
@home_option
@json_option
def plan(
    recipe: Path, baseline: str | None, first: bool, device: str, home: Home, as_json: bool
) -> None:
    """Check RECIPE, its data and its model, and say what `rarefy run` would do.

    Also says whether the eval split has rows enough for the budgets' margins.

    Example: `rarefy plan demo.yaml`
    """
    from rich.table import Table

    from pipeline.recipe import recipe as recipes
    from pipeline.run import baselines, evidence
    from pipeline.run.plan import Plan

    loaded = recipes.load(recipe)
    if baseline is not None:
        loaded = baselines.with_baseline(loaded, baseline)
    found = Plan(loaded, home.store(), device, first=first)
    planned = found.steps()
    needs = evidence.needs(found, home.runs / loaded.recipe.name)
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
                "rows": found.summary.rows,
                "labels": found.labels,
                "warnings": found.warnings,
                "evidence": [
                    {
                        "budget": need.budget.metric,
                        "against": need.budget.against,
                        "needed": need.needed,
                        "rows": need.rows,
                        "enough": need.enough,
                        "text": need.text,
                    }
                    for need in needs
                ],
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
    rows = ", ".join(f"{count} {name}" for name, count in found.summary.rows.items())
    console.print(f"\ndata: {rows} rows; labels: {', '.join(found.labels)}")
    for note in found.warnings + [need.text for need in needs]:
        console.print(f"note: {note}")
