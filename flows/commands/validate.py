"""``rarefy validate``: measure a bundle again, here, and judge it by a recipe's budgets."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from flows.options import (
    Home,
    device_option,
    first_option,
    home_option,
    json_option,
    show_json,
    stderr,
)


@click.command(short_help="Measure a bundle again on this machine and judge it.")
@click.argument("bundle")
@click.option(
    "--recipe",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Whose eval split and budgets; default: the run's own recipe.",
)
@click.option("--strict", is_flag=True, help="Exit 4 when a budget is inconclusive.")
@first_option
@device_option
@home_option
@json_option
def validate(
    bundle: str,
    recipe: Path | None,
    strict: bool,
    first: bool,
    device: str,
    home: Home,
    as_json: bool,
) -> int:
    """Measure BUNDLE (a folder, a run, a tag or a digest) without running any stage.

    Accuracy on the recipe's eval split, latency beside the references that the store has, size,
    memory; then the verdict on the recipe's budgets.

    Example: `rarefy validate production --recipe demo.yaml`
    """
    from flows.bundles import find
    from flows.display import Display, verdict_table
    from flows.history import keep_validated
    from flows.remeasure import measure, recipe_of
    from pipeline import recipe as recipes
    from pipeline import verdict
    from pipeline.engine import Run
    from pipeline.errors import RecipeError

    found = find(bundle, home)
    run = Run(recipes.load(recipe_of(bundle, recipe, home)), home.store(), device, first=first)
    if not run.loaded.recipe.budgets:
        raise RecipeError(f"{run.loaded.path}: has no budgets, so there is nothing to judge by")
    console = stderr()
    with Display(console, 1, quiet=as_json) as display:
        display.started("validate")
        measured = measure(run, found, display.progress)
        for warning in run.warnings:
            display.say(f"note: {warning}", "yellow")
    judged = verdict.judge(run.budgets, run.loaded.recipe.targets, measured)
    keep_validated(home.path, run, found, judged, measured)
    code = judged.exit_code(strict)
    if as_json:
        shown = judged.model_dump(mode="json", by_alias=True)
        show_json({"bundle": found.digest, "exit_code": code, "warnings": run.warnings, **shown})
        return code
    console.print(verdict_table(judged))
    for sentence in judged.evidence:
        console.print(f"no verdict: {sentence}")
    click.echo(f"verdict: {judged.outcome}")
    return code
