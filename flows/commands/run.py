"""``rarefy run``: a recipe from model to verdict."""

from __future__ import annotations

import shlex
from pathlib import Path

import rich_click as click

from flows.options import (
    Home,
    device_option,
    first_option,
    home_option,
    json_option,
    recipe_argument,
    show_json,
    stderr,
)


@click.command(short_help="Run a recipe: every stage, then the verdict and the report.")
@recipe_argument
@click.option(
    "--engine",
    type=click.Choice(["prefect", "inline"]),
    default="prefect",
    show_default=True,
    help="Run as a Prefect flow, or the same engine without Prefect.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Where report and bundle go."
)
@click.option("--strict", is_flag=True, help="Exit 4 when a budget is inconclusive.")
@first_option
@device_option
@click.option("--threads", type=click.IntRange(1), help="Training threads; default: all cores.")
@home_option
@json_option
@click.pass_context
def run(
    context: click.Context,
    recipe: Path,
    engine: str,
    out: Path | None,
    strict: bool,
    first: bool,
    device: str,
    threads: int | None,
    home: Home,
    as_json: bool,
) -> int:
    """Run RECIPE: stages that are done already are taken from the store.

    A run that was interrupted or killed goes on where it stopped. Ends with a verdict on every
    budget, report.html, and the ONNX bundle.

    Example: `rarefy run demo.yaml`
    """
    from flows import compress
    from flows.display import Display, verdict_table
    from pipeline import outcome
    from pipeline import recipe as recipes

    loaded = recipes.load(recipe)
    directory = out or home.runs / loaded.recipe.name
    job = compress.Job(
        recipe=str(recipe),
        home=str(home.path),
        out=str(directory),
        device=device,
        threads=threads,
        command=f"rarefy run {'--first ' if first else ''}{shlex.quote(str(recipe))}",
        first=first,
    )
    console = stderr()
    with Display(console, len(loaded.steps), quiet=as_json) as display:
        if engine == "inline":
            result = compress.run_inline(job)
        else:
            verbose = bool(context.parent and context.parent.params["verbose"])
            result = compress.run_with_prefect(job, home.prefect, verbose)
        for warning in result.outcome.data.warnings:
            display.say(f"note: {warning}", "yellow")
    code = result.outcome.exit_code(strict)
    judged = result.outcome.data.verdict
    if as_json:
        show_json(outcome.as_json(result.outcome, result.paths, code))
        return code
    if judged is not None:
        console.print()
        console.print(verdict_table(judged))
        console.print()
        for sentence in judged.evidence:
            console.print(f"no verdict: {sentence}", soft_wrap=True)
    for name, path in result.paths.items():
        if name in ("bundle", "report"):
            console.print(f"{name:<8} {path}", soft_wrap=True)
    click.echo(f"verdict: {judged.outcome if judged else 'none (no validate stage)'}")
    return code
