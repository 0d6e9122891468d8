"""``rarefy ci``: run a recipe as a gate between a change and production."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from rarefy.flows.console.options import (
    Folder,
    command_line_option,
    engine_options,
    first_option,
    fresh_option,
    given_where,
    home_option,
    json_option,
    recipe_argument,
    show_json,
    stderr,
    verbose,
    without_credentials,
)
from rarefy.pipeline.store.home import Home

if TYPE_CHECKING:
    from rarefy.flows.console.results import Result
    from rarefy.flows.run.job import Job
    from rarefy.pipeline.recipe.recipe import LoadedRecipe
    from rarefy.pipeline.run.logbook import Engine
    from rarefy.pipeline.terms.budget import Budget

UNFINISHED = "the run was stopped before it reached a verdict; its log shows how far it got"


@click.command(short_help="Run a recipe as a CI gate and write the files that CI systems read.")
@recipe_argument
@command_line_option("baseline")
@click.option(
    "--out",
    type=Folder(Path),
    callback=without_credentials,
    required=True,
    help="The folder for all outputs.",
)
@first_option
@fresh_option
@click.option("--lenient", is_flag=True, help="Exit 0 if a budget is inconclusive, and warn.")
@click.option(
    "--latency",
    type=click.Choice(["strict", "warn"]),
    default="strict",
    show_default=True,
    help="Whether budgets on times decide, or are warnings, as on a shared runner.",
)
@engine_options
@home_option
@json_option
def ci(
    recipe: Path,
    baseline: str | None,
    out: Path,
    first: bool,
    fresh: bool,
    lenient: bool,
    latency: str,
    engine: Engine,
    device: str,
    threads: int | None,
    home: Home,
    as_json: bool,
) -> int:
    """Run RECIPE as a CI gate. An inconclusive budget also fails the build, unless --lenient.

    Writes verdict.json, summary.md, report.html, run.json, answers.safetensors, junit.xml and
    bundle/ to --out. If the run fails, summary.md and junit.xml give the reason.

    --baseline replaces the tag in every budget against a tag. If the recipe has no such budget,
    three are added: the main score, latency and size may get only slightly worse.

    A cache that the CI system restored is not verified. Use --fresh for the runs that precede a
    promotion: it computes and measures everything again.

    Example: `rarefy ci demo.yaml --baseline production --out build/rarefy`
    """
    from rarefy.flows.run.job import Job

    options = {
        "--baseline": baseline,
        "--out": out,
        "--first": first,
        "--fresh": fresh,
        "--lenient": lenient,
        "--latency": None if latency == "strict" else latency,
        **given_where(),
    }
    job = Job(
        recipe=str(recipe),
        home=str(home.path),
        out=str(out),
        device=device,
        threads=threads,
        command=_command(recipe, options),
        first=first,
        fresh=fresh,
        baseline=baseline,
        ci=True,
        latency=latency,
        strict=not lenient,
    )
    return carry_out(job, engine, as_json)


def carry_out(job: Job, engine: Engine, as_json: bool) -> int:
    """Run a gate's job, write the CI files, show the verdict and return the exit code."""
    from rarefy.flows import start
    from rarefy.flows.console.display import Display
    from rarefy.pipeline.run import folder

    try:
        # If the run is killed, these pages remain.
        _draw_broken(job, UNFINISHED)
        loaded = _load(job)
        with Display(stderr(), quiet=as_json) as display:
            result = start.run(job, loaded, engine, display, verbose=verbose())
            display.notes(result.outcome.data.warnings)
        paths = result.paths | folder.draw_ci(result.outcome.data, Path(job.out), job.strict)
    except Exception as error:
        _report_error(job, error)
        raise
    # Beyond this, an error is of whoever reads: a run that has ended keeps its files.
    return _report(result, job, loaded, paths, as_json)


def _command(recipe: Path, options: Mapping[str, Any]) -> str:
    from rarefy.flows.run import job as jobs

    # The recipe at the beginning: `rarefy.pipeline.release.origin` reads it there.
    return shlex.join(["rarefy", "ci", str(recipe), *jobs.words(options)])


def _load(job: Job) -> LoadedRecipe:
    """Read the recipe, and print a note if budgets against the baseline were added to it."""
    from rarefy.pipeline.recipe import recipe as recipes
    from rarefy.pipeline.run.plan import baselines, times_as_warnings
    from rarefy.pipeline.terms.errors import RecipeError

    loaded = recipes.load(Path(job.recipe))
    own_budgets = len(loaded.recipe.budgets)
    if job.baseline is not None:
        loaded = baselines.with_baseline(loaded, job.baseline)
    if not loaded.recipe.budgets:
        raise RecipeError(
            f"{job.recipe} has no budgets, so this gate would pass every model; "
            "add budgets, or give a --baseline"
        )
    added = loaded.recipe.budgets[own_budgets:]
    if added:
        budgets = ", ".join(f"{b.metric} {b.form} {_limit(b)}" for b in added)
        click.echo(
            f"note: {job.recipe} has no budget against a tag; these were added against "
            f"{job.baseline!r}: {budgets}",
            err=True,
        )
    if job.latency == "warn":
        loaded = times_as_warnings.with_times_as_warnings(loaded)
    return loaded


def _limit(budget: Budget) -> str:
    """Return the limit of a budget on a difference or a regression: 1 point, 5 %."""
    from rarefy.pipeline.terms import wording

    form = wording.points if budget.form == "max_drop" else wording.percent
    return wording.exactly(form, budget.limit)


def _report(
    result: Result, job: Job, loaded: LoadedRecipe, paths: Mapping[str, str], as_json: bool
) -> int:
    """Write, on GitHub, the annotations and the summary; print the verdict."""
    from rarefy.flows.console import terminal
    from rarefy.flows.console.display import show_verdict, verdict_line
    from rarefy.pipeline.report.ci import annotations
    from rarefy.pipeline.run import outcome

    data, code = result.outcome.data, result.exit_code(job.strict)
    verdict = data.verdict
    verdict_text = "none" if verdict is None else verdict.outcome
    budgets = zip(loaded.recipe.budgets, loaded.budget_lines, strict=True)
    terminal.annotate(annotations.render(data, job.strict, _file(job.recipe), list(budgets)))
    terminal.summarize(Path(paths["summary"]).read_text(encoding="utf-8"))
    terminal.output({"outcome": verdict_text, "report": paths["report"]})
    if as_json:
        show_json(outcome.as_json(result.outcome, paths, code))
        return code
    console = stderr()
    show_verdict(verdict, console, data.measurements)
    if verdict is not None and verdict.exit_code(job.strict) != verdict.exit_code(strict=False):
        console.print("note: with --lenient, an inconclusive budget exits 0 and warns")
    for name, path in paths.items():
        console.print(f"{name:<18} {path}", soft_wrap=True)
    click.echo(verdict_line(verdict, data.absent))
    return code


def _report_error(job: Job, error: Exception) -> None:
    """Write the reason why there is no verdict to the CI files and to GitHub."""
    from rarefy.flows.console import terminal
    from rarefy.pipeline.report.ci import annotations
    from rarefy.pipeline.run import names
    from rarefy.pipeline.terms.credentials import redact
    from rarefy.pipeline.terms.errors import RarefyError

    reason = str(error)
    if not isinstance(error, RarefyError):
        reason = f"unexpected {type(error).__name__}: {reason}"
    reason = redact(next(iter(reason.splitlines()), "no reason given"))
    name = Path(job.recipe).stem
    terminal.annotate([annotations.broken(name, reason, job.recipe, _file(job.recipe))])
    terminal.output({"outcome": "error"})
    try:
        _draw_broken(job, reason)
    except RarefyError:
        return  # the folder holds files of others; that is the reason already
    terminal.summarize((Path(job.out) / names.SUMMARY).read_text(encoding="utf-8"))


def _draw_broken(job: Job, reason: str) -> None:
    from rarefy.pipeline.run import folder

    folder.draw_broken(Path(job.recipe).stem, reason, Path(job.out))


def _file(recipe: str) -> str:
    """Return the recipe's path relative to the repository's root, as GitHub names files."""
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if workspace is None:
        return recipe
    path = Path(recipe).resolve()
    root = Path(workspace).resolve()
    if not path.is_relative_to(root):
        return recipe
    return str(path.relative_to(root))
