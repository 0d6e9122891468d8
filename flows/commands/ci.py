"""``rarefy ci``: a recipe as a gate between a change and production."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from flows.options import (
    engine_options,
    first_option,
    home_option,
    json_option,
    recipe_argument,
    show_json,
    stderr,
    verbose,
)
from pipeline.store.home import Home

if TYPE_CHECKING:
    from flows.compress import Engine
    from flows.jobs import Job
    from flows.results import Result
    from pipeline.recipe.recipe import LoadedRecipe

UNFINISHED = "the run was ended before it came to a verdict; its log says how far it got"


@click.command(short_help="Run a recipe as a CI gate: verdict, and every file a CI system reads.")
@recipe_argument
@click.option("--baseline", metavar="TAG", help="Measure TAG, or URL#TAG, beside the candidate.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Where all outputs go.",
)
@first_option
@click.option("--lenient", is_flag=True, help="Exit 0 where a budget is inconclusive, and warn.")
@engine_options
@home_option
@json_option
def ci(
    recipe: Path,
    baseline: str | None,
    out: Path,
    first: bool,
    lenient: bool,
    engine: Engine,
    device: str,
    threads: int | None,
    home: Home,
    as_json: bool,
) -> int:
    """Run RECIPE as a gate: an inconclusive budget stops the build too, unless --lenient.

    DIR gets verdict.json, summary.md, report.html, junit.xml, metrics.txt, bmf.json,
    benchmark-smaller.json, benchmark-bigger.json and bundle/; whatever happens, it says why.
    With a baseline, every budget against a tag is judged against it; a recipe without such budgets
    gets the usual three: accuracy, latency and size may hardly get worse.

    Example: `rarefy ci demo.yaml --baseline production --out build/rarefy`
    """
    from flows import compress
    from flows.display import Display
    from flows.jobs import Job

    job = Job(
        recipe=str(recipe),
        home=str(home.path),
        out=str(out),
        device=device,
        threads=threads,
        command=_command(recipe, baseline, out, first, lenient),
        first=first,
        baseline=baseline,
    )
    try:
        # A run that is killed leaves this behind.
        _leave(job, UNFINISHED)
        loaded = _load(job)
        with Display(stderr(), quiet=as_json) as display:
            result = compress.run(job, loaded, engine, display, verbose=verbose())
            for warning in result.outcome.data.warnings:
                display.say(f"note: {warning}", "yellow")
        return _tell(result, job, loaded, not lenient, as_json)
    except Exception as error:
        _broken(job, error)
        raise


def _command(recipe: Path, baseline: str | None, out: Path, first: bool, lenient: bool) -> str:
    words = ["rarefy", "ci", str(recipe), *(["--baseline", baseline] if baseline else [])]
    flags = {"--first": first, "--lenient": lenient}
    return shlex.join([*words, "--out", str(out), *(flag for flag in flags if flags[flag])])


def _load(job: Job) -> LoadedRecipe:
    """Read the recipe, and say where it asked nothing of the baseline."""
    from pipeline.recipe import recipe as recipes
    from pipeline.run import baselines
    from pipeline.terms.errors import RecipeError

    loaded = recipes.load(Path(job.recipe))
    pointed = loaded if job.baseline is None else baselines.with_baseline(loaded, job.baseline)
    if not pointed.recipe.budgets:
        raise RecipeError(
            f"{job.recipe}: has no budgets, and a gate that asks nothing keeps nothing out; "
            "write some, or compare with a --baseline"
        )
    if added := pointed.recipe.budgets[len(loaded.recipe.budgets) :]:
        said = ", ".join(f"{b.metric} {b.form} {b.limit:.0%}" for b in added)
        click.echo(
            f"note: no budget of {job.recipe} is against a tag; against {job.baseline!r} these "
            f"are added: {said}",
            err=True,
        )
    return pointed


def _tell(result: Result, job: Job, loaded: LoadedRecipe, strict: bool, as_json: bool) -> int:
    """Write the CI files, tell GitHub where it listens, and say the verdict."""
    from flows import github
    from flows.display import show_verdict
    from pipeline.report.ci import annotations
    from pipeline.run import folder, outcome

    data, code = result.outcome.data, result.outcome.exit_code(strict)
    paths = result.paths | folder.draw_ci(data, Path(job.out), strict)
    judged = data.verdict
    said = "none" if judged is None else judged.outcome
    budgets = zip(loaded.recipe.budgets, loaded.budget_lines, strict=True)
    github.annotate(annotations.render(data, strict, _file(job.recipe), list(budgets)))
    github.summarize(Path(paths["summary"]).read_text(encoding="utf-8"))
    github.output({"outcome": said, "report": paths["report"]})
    if as_json:
        show_json(outcome.as_json(result.outcome, paths, code))
        return code
    console = stderr()
    show_verdict(judged, console)
    for name, path in paths.items():
        console.print(f"{name:<18} {path}", soft_wrap=True)
    click.echo(f"verdict: {said}")
    return code


def _broken(job: Job, error: Exception) -> None:
    """Say on the CI's pages why there is no verdict."""
    from flows import github
    from pipeline.report.ci import annotations
    from pipeline.terms.errors import RarefyError

    reason = str(error)
    if not isinstance(error, RarefyError):
        reason = f"unexpected {type(error).__name__}: {reason}"
    reason = next(iter(reason.splitlines()), "no reason given")
    name = Path(job.recipe).stem
    github.annotate([annotations.broken(name, reason, job.recipe, _file(job.recipe))])
    _leave(job, reason)
    github.summarize((Path(job.out) / "summary.md").read_text(encoding="utf-8"))
    github.output({"outcome": "error"})


def _leave(job: Job, reason: str) -> None:
    from pipeline.run import folder

    folder.draw_broken(Path(job.recipe).stem, reason, Path(job.out))


def _file(recipe: str) -> str:
    """Return the recipe's path from the root of the repository, as GitHub names files."""
    path, root = Path(recipe).resolve(), os.environ.get("GITHUB_WORKSPACE")
    inside = root is not None and path.is_relative_to(Path(root).resolve())
    return str(path.relative_to(Path(root or "").resolve())) if inside else recipe
