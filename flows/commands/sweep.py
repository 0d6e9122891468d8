"""``rarefy sweep``: many variants of a recipe, and which of them is the best for a purpose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from rarefy.flows.console.options import (
    Folder,
    as_given,
    device_option,
    first_option,
    home_option,
    json_option,
    show_json,
    show_table,
    stderr,
    verbose,
    without_credentials,
)
from rarefy.pipeline.store.home import Home

if TYPE_CHECKING:
    from rarefy.flows.sweep.coordinator import Sweeping
    from rarefy.flows.sweep.workers import On


@click.command(short_help="Run many variants of a recipe, and choose the best for a purpose.")
@click.argument("sweep", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--out",
    type=Folder(Path),
    callback=without_credentials,
    help="The folder of the sweep; default: sweeps/NAME in --home.",
)
@click.option(
    "--on",
    type=click.Choice(["inline", "threads", "dask", "ray"]),
    help="Where branches run; default: threads, each of which starts a process for each branch.",
)
@click.option("--workers", type=click.IntRange(1), help="Branches at once; default: one per core.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="Threads of a branch (results depend on it); default: cores / workers.",
)
@click.option("--dask", metavar="ADDRESS", help="Run on the Dask cluster with this scheduler.")
@click.option("--ray", metavar="ADDRESS", help="Run on this Ray cluster.")
@click.option(
    "--store",
    metavar="URL",
    callback=without_credentials,
    help="The store through which workers without a common disk share artifacts.",
)
@click.option("--dry-run", is_flag=True, help="Show what would run.")
@first_option
@device_option
@home_option
@json_option
def sweep(
    sweep: Path,
    out: Path | None,
    on: On | None,
    workers: int | None,
    threads: int | None,
    dask: str | None,
    ray: str | None,
    store: str | None,
    dry_run: bool,
    first: bool,
    device: str,
    home: Home,
    as_json: bool,
) -> int:
    """Run the variants of a recipe that SWEEP describes, and choose the best for each question.

    Steps that variants share are done once. Branches are chosen by their accuracy on the
    development rows, their latency, timed alone on this machine, and their size. The recipes that
    answer the questions are written and run to their verdicts. An interrupted sweep continues when
    started again; branches that failed are tried again.

    Exit codes: 0 every question has an answer, and no verdict misses a budget · 3 a chosen recipe
    misses a budget · 4 a question has no answer, or a verdict is inconclusive · 5 an extra or a
    cluster is missing.

    Example: `rarefy sweep sweep.yaml --workers 2`
    """
    from rarefy.flows.console.display import Display
    from rarefy.flows.server import measuring
    from rarefy.flows.sweep import answers as sweep_answers
    from rarefy.flows.sweep import branches_on
    from rarefy.flows.sweep.coordinator import Sweeping
    from rarefy.flows.sweep.job import Job
    from rarefy.flows.sweep.workers import Where
    from rarefy.pipeline.measure import machine
    from rarefy.pipeline.sweep import file as sweep_file
    from rarefy.pipeline.sweep import winner

    loaded = sweep_file.load(sweep)
    cores = machine.usable()
    executor = _executor(on, dask, ray)
    size = 1 if executor == "inline" else workers or cores
    where = Where(executor, size, dask or ray)
    branches_on.check(where)
    job = Job(
        sweep=loaded,
        home=home,
        out=out or home.path / "sweeps" / loaded.file.name,
        where=where,
        threads=threads or max(1, cores // size),
        device=device,
        store=store,
        first=first,
    )
    console = stderr()
    display = Display(console, quiet=as_json)
    if dry_run:
        return _dry_run(Sweeping(job.settled(threads), display), as_json)
    winner.check(loaded)
    with job.held(), measuring.limited(home, verbose()), display:
        display.started("sweep")
        job = job.opened(threads)
        sweeping = Sweeping(job, display)
        if sweeping.left:
            name = loaded.file.name
            branches_on.run(where, home, name, job.threads, sweeping.run, verbose())
        sweeping.time()
        swept = sweep_answers.conclude(
            job,
            list(sweeping.branches.values()),
            display,
            command=f"{as_given('threads', 'as_json')} --threads {job.threads}",
            notes=sweeping.notes,
        )
    if as_json:
        show_json(swept.as_json())
        return swept.exit_code
    show_table(swept.table())
    console.print(f"page     {job.out / sweep_answers.PAGE}", soft_wrap=True)
    return swept.exit_code


def _executor(on: On | None, dask: str | None, ray: str | None) -> On:
    """Return the executor. Raises UsageError if an address is for another one."""
    executors: set[Any] = {on, dask and "dask", ray and "ray"}
    executors.discard(None)
    if len(executors) > 1:
        raise click.UsageError("--on, --dask and --ray contradict each other")
    return next(iter(executors), "threads")


def _dry_run(sweeping: Sweeping, as_json: bool) -> int:
    """List the variants, and say how much there is to do."""
    variants = {name: branch.state for name, branch in sweeping.branches.items()}
    counts = {
        "branches": len(sweeping.branches),
        "waiting": len(sweeping.waiting),
        "trials": sweeping.trials_left,
    }
    if as_json:
        show_json({**counts, "variants": variants, "reasons": sweeping.reasons})
        return 0
    for name, state in variants.items():
        click.echo(f"{name}: {sweeping.reasons.get(name, state)}")
    click.echo("{branches} branches, {waiting} to run, {trials} more trials".format(**counts))
    return 0
