"""``rarefy run``: run a recipe from model to verdict."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from rarefy.flows.console.options import (
    Folder,
    engine_options,
    first_option,
    fresh_option,
    given_where,
    home_option,
    json_option,
    recipe_argument,
    show_json,
    stderr,
    strict_option,
    verbose,
    without_credentials,
)
from rarefy.pipeline.store.home import Home

if TYPE_CHECKING:
    from rarefy.flows.run.job import Job
    from rarefy.pipeline.recipe.recipe import LoadedRecipe
    from rarefy.pipeline.run.logbook import Engine


@click.command(short_help="Run every stage of a recipe, then judge and report.")
@recipe_argument
@click.option(
    "--out",
    type=Folder(Path),
    callback=without_credentials,
    help="The folder for report and bundle; default: runs/NAME in --home.",
)
@strict_option
@first_option
@fresh_option
@engine_options
@home_option
@json_option
def run(
    recipe: Path,
    engine: Engine,
    out: Path | None,
    strict: bool,
    first: bool,
    fresh: bool,
    device: str,
    threads: int | None,
    home: Home,
    as_json: bool,
) -> int:
    """Run RECIPE and write a verdict on every budget, report.html and the ONNX bundle.

    Finished stages are read from the store; a run that was interrupted or killed resumes where it
    stopped. With --fresh, everything is computed and measured again.

    Example: `rarefy run demo.yaml`
    """
    from rarefy.flows.run.job import Job
    from rarefy.pipeline.recipe import recipe as recipes

    loaded = recipes.load(recipe)
    job = Job(
        recipe=str(recipe),
        home=str(home.path),
        out=str(out or home.runs / loaded.recipe.name),
        device=device,
        threads=threads,
        command=_command(recipe, {"--first": first, "--fresh": fresh, **given_where()}),
        first=first,
        fresh=fresh,
        strict=strict,
    )
    return carry_out(job, loaded, engine, as_json)


def carry_out(job: Job, loaded: LoadedRecipe, engine: Engine, as_json: bool) -> int:
    """Run a job, show its verdict and return the exit code."""
    from rarefy.flows import start
    from rarefy.flows.console import summary
    from rarefy.flows.console.display import Display, show_gains, show_verdict, verdict_line
    from rarefy.pipeline.run import outcome

    console = stderr()
    with Display(console, quiet=as_json) as display:
        result = start.run(job, loaded, engine, display, verbose=verbose())
        display.notes(result.outcome.data.warnings)
    code = result.exit_code(job.strict)
    judged = result.outcome.data.verdict
    if as_json:
        show_json(outcome.as_json(result.outcome, result.paths, code))
        return code
    show_verdict(judged, console, result.outcome.data.measurements)
    show_gains(result.outcome.data, console)
    console.print(f"report   {result.report}", soft_wrap=True)
    bundle = result.bundle
    if bundle is not None:
        pairs = not isinstance(loaded.recipe.data.text, str)
        home = Home.of(job.home)
        command = summary.next_command(bundle, home, pairs=pairs)
        console.print(f"bundle   {bundle}", soft_wrap=True)
        console.print(f"next:    {command}", soft_wrap=True)
    lacking = "validate stage" if result.outcome.data.measurements is None else "budgets"
    click.echo(verdict_line(judged, result.outcome.data.absent, f"none (no {lacking})"))
    return code


def _command(recipe: Path, options: Mapping[str, Any]) -> str:
    from rarefy.flows.run import job as jobs

    # The recipe at the end: `rarefy.pipeline.release.origin` reads it there.
    return shlex.join(["rarefy", "run", *jobs.words(options), str(recipe)])
