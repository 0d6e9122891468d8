"""``rarefy runs``: what ran here and what is running: list, show, logs, cancel, resume."""

from __future__ import annotations

import os
import platform
import signal
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from rarefy.flows.console import completion
from rarefy.flows.console.options import (
    INTERRUPTED,
    home_option,
    json_option,
    plain_table,
    show_json,
    show_table,
    stdout,
    strict_option,
)
from rarefy.pipeline.store.home import Home

if TYPE_CHECKING:
    from rarefy.pipeline.run.logbook import Entry, Logbook

PATIENCE = 60.0
"""Seconds that a cancelled run has to stop."""
AGAIN = 10.0
"""Seconds after which a run that has not stopped is told again.

Python ignores an interrupt that comes during a finalizer or a weak reference's callback, and each
import has such a callback: of 600 interrupts during imports, 5 were lost.
"""
STOPPED = ("interrupted", "killed", "error")
"""The states of a run that did not come to its end."""
COLOURS = {"pass": "green", "fail": "red", "error": "red", "running": "cyan", "killed": "red"}
run_argument = click.argument("reference", metavar="RUN", shell_complete=completion.runs)


@click.group(short_help="List, follow, cancel and resume the runs of this folder.")
def runs() -> None:
    """List, follow, cancel and resume runs, of this or another terminal or a schedule.

    RUN is a run's id, the beginning of one, or a recipe's name, which means its latest run.
    """


@runs.command("ls", short_help="List the runs, the latest first.")
@click.argument("name", metavar="[RECIPE]", required=False, shell_complete=completion.runs)
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="Number of runs to list."
)
@home_option
@json_option
def ls(name: str | None, limit: int, home: Home, as_json: bool) -> None:
    """List the runs of RECIPE (a name; default: of all recipes).

    Example: `rarefy runs ls`
    """
    from rich.text import Text

    from rarefy.pipeline.terms.wording import duration

    book = _book(home)
    for error in book.unreadable().values():
        click.echo(f"note: {error}", err=True)
    entries = [entry for entry in book.entries() if name in (None, entry.name)]
    if as_json:
        show_json([_as_json(entry) for entry in entries[:limit]])
        return
    if not entries:
        of_recipe = f" of {name}" if name else ""
        click.echo(f"no runs{of_recipe} in {home.path}", err=True)
        return
    table = plain_table("run", "state", "steps", "at", "started", "took", whole=("run",))
    for entry in entries[:limit]:
        state = Text(entry.state, COLOURS.get(entry.state, ""))
        steps = f"{len(entry.steps)}/{entry.total}"
        started = _local_time(entry.started)
        took = duration(entry.seconds)
        table.add_row(entry.id, state, steps, entry.step or "", started, took)
    show_table(table)


@runs.command("show", short_help="Show a run's steps, state and files.")
@run_argument
@home_option
@json_option
def show(reference: str, home: Home, as_json: bool) -> None:
    """Show the state of RUN, its steps with their times, and where its log and report are.

    Example: `rarefy runs show demo`
    """
    from rarefy.pipeline.terms.wording import duration

    book = _book(home)
    entry = book.find(reference)
    if as_json:
        show_json(_as_json(entry) | {"log": str(book.log(entry.id))})
        return
    lines = [("run", entry.id), ("state", entry.state)]
    if entry.message:
        lines.append(("reason", entry.message))
    lines += [
        ("recipe", entry.job["recipe"]),
        ("command", entry.job["command"]),
        ("engine", entry.engine),
        ("process", f"{entry.pid} on {entry.host}"),
        ("started", _local_time(entry.started)),
        ("took", duration(entry.seconds)),
        ("folder", entry.job["out"]),
        ("log", str(book.log(entry.id))),
    ]
    for step in entry.steps:
        took = "cached" if step.cached else duration(step.seconds)
        lines.append(("step", f"{step.id:<12} {step.digest[:12]}  {took}"))
    if entry.step:
        lines.append(("step", f"{entry.step:<12} running"))
    for key, value in lines:
        stdout().print(f"{key:<9} {value}", soft_wrap=True)


@runs.command("logs", short_help="Print a run's log.")
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Follow the log until the run ends.")
@home_option
@json_option
def logs(reference: str, follow: bool, home: Home, as_json: bool) -> int:
    """Print the log of RUN: its steps, messages and progress, and the traceback of an error.

    Example: `rarefy runs logs demo --follow`
    """
    from rarefy.pipeline.terms.errors import RecipeError

    if follow and as_json:
        raise click.UsageError("--follow and --json exclude each other")
    book = _book(home)
    entry = book.find(reference)
    path = book.log(entry.id)
    if not path.is_file():
        raise RecipeError(f"{entry.id}: its log is gone")
    if follow:
        try:
            book.follow(entry, lambda text: click.echo(text, nl=False))
        except KeyboardInterrupt:
            return INTERRUPTED  # only this command; the run goes on
        return 0
    text = path.read_text(encoding="utf-8")
    if as_json:
        show_json({"run": entry.id, "path": str(path), "lines": text.splitlines()})
    else:
        click.echo(text, nl=False)
    return 0


@runs.command("cancel", short_help="Stop a run; finished stages stay in the store.")
@run_argument
@home_option
@json_option
def cancel(reference: str, home: Home, as_json: bool) -> None:
    """Stop RUN as Ctrl-C does; `rarefy runs resume` continues after the finished stages.

    Example: `rarefy runs cancel demo`
    """
    from rarefy.pipeline.terms.errors import ProviderError, RecipeError

    book = _book(home)
    entry = book.find(reference)
    _check_stoppable(entry)
    try:
        _interrupt(entry)
    except ProcessLookupError:
        ended = book.find(entry.id)
        raise RecipeError(f"{ended.id} is not running: {ended.state}") from None
    except PermissionError:
        raise ProviderError(
            f"{entry.id}: process {entry.pid} belongs to another user, who can cancel it"
        ) from None
    _wait_for_end(book, entry)
    ended = book.find(entry.id)
    if as_json:
        show_json(_as_json(ended))
    elif ended.state in STOPPED:
        click.echo(f"cancelled {entry.id}; {_going_on(entry)}")
    else:
        click.echo(f"{entry.id} had already ended: {ended.state}")


def _check_stoppable(entry: Entry) -> None:
    """Raise RecipeError if a run does not run, or not where this process could stop it."""
    from rarefy.pipeline.run import logbook
    from rarefy.pipeline.terms.errors import RecipeError

    if entry.state != "running":
        raise RecipeError(f"{entry.id} is not running: {entry.state}")
    if entry.host != platform.node():
        raise RecipeError(f"{entry.id} runs on {entry.host}: cancel it there")
    if entry.space not in (None, logbook.space()):
        raise RecipeError(
            f"{entry.id} runs in another container or on another machine named "
            f"{entry.host}: cancel it there"
        )


def _interrupt(entry: Entry) -> None:
    os.kill(entry.pid, signal.Signals[entry.stop])


def _wait_for_end(book: Logbook, entry: Entry) -> None:
    """Wait until a run that was told to stop has ended. Raises ProviderError if it does not."""
    from rarefy.pipeline.terms.errors import ProviderError

    told = time.monotonic()
    deadline = told + PATIENCE
    while book.alive(entry):
        now = time.monotonic()
        if now > told + AGAIN:
            told = now
            with suppress(ProcessLookupError):
                _interrupt(entry)
        if now > deadline:
            raise ProviderError(
                f"{entry.id} has not stopped in {PATIENCE:.0f} s; process {entry.pid} may be in a "
                f"long calculation: wait, or end it with `kill -9 {entry.pid}`; finished stages "
                "stay in the store"
            )
        time.sleep(0.1)


@runs.command("resume", short_help="Resume a run that was stopped, killed or failed.")
@run_argument
@strict_option
@home_option
@json_option
def resume(reference: str, strict: bool, home: Home, as_json: bool) -> int:
    """Run the recipe of RUN again with the same options; finished stages are not repeated.

    A run of `rarefy ci` resumes as one: its files are written, and an inconclusive budget also
    fails, unless the run had --lenient.

    The recipe is read as it is now, and the new run has its own log. If the recipe was renamed, the
    folder has the new name, unless --out was given. A run that was started with
    --fresh computes everything again.

    Example: `rarefy runs resume demo`
    """
    from rarefy.flows.commands import ci, run
    from rarefy.flows.run import job as jobs
    from rarefy.flows.sharing import recipe_source
    from rarefy.pipeline.terms.errors import RecipeError

    entry = _book(home).find(reference)
    if entry.state == "running":
        raise RecipeError(f"{entry.id} is still running; `rarefy runs logs -f` follows it")
    job = jobs.Job.from_record(entry.job)
    job = replace(job, strict=strict or job.strict)
    if job.in_python:
        raise RecipeError(f"{entry.id}: its recipe was built in Python; {_going_on(entry)}")
    if recipe_source.is_remote(job.recipe):
        raise RecipeError(
            f"{entry.id}: a worker fetched its recipe from {job.recipe}; `rarefy submit` starts "
            "the deployment again, and finished stages are not repeated"
        )
    if job.ci:
        return ci.carry_out(job, entry.engine, as_json)
    loaded = jobs.load(job)
    folder = Home(Path(job.home)).runs
    if Path(job.out) == folder / entry.name:
        job = replace(job, out=str(folder / loaded.recipe.name))
    return run.carry_out(job, loaded, entry.engine, as_json)


def _going_on(entry: Entry) -> str:
    """Return the sentence that says how a run that was stopped goes on."""
    from rarefy.flows.run import job as jobs
    from rarefy.flows.sharing import recipe_source

    if entry.job["command"] == jobs.IN_PYTHON:
        return "call rarefy.run(recipe) in Python to resume; finished stages are not repeated"
    if recipe_source.is_remote(entry.job["recipe"]):
        return "`rarefy submit` resumes it"
    return f"`rarefy runs resume {entry.id}` resumes it"


def _book(home: Home) -> Logbook:
    from rarefy.pipeline.run.logbook import Logbook

    return Logbook(home)


def _as_json(entry: Entry) -> dict[str, Any]:
    return entry.model_dump(by_alias=True) | {"seconds": round(entry.seconds, 1)}


def _local_time(moment: float) -> str:
    return datetime.fromtimestamp(moment).isoformat(" ", "seconds")
