"""``rarefy schedule``: serve a recipe's flow on a schedule, on a Prefect server."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from rarefy.flows.console.options import (
    as_given,
    device_option,
    given_where,
    home_option,
    json_option,
    recipe_argument,
    show_json,
    strict_option,
    threads_option,
    without_credentials,
)
from rarefy.pipeline.store.home import Home

if TYPE_CHECKING:
    from rarefy.flows.run.job import Job


FIELDS = 5
"""The fields of a cron expression."""


@click.command(short_help="Run a recipe on a schedule, as long as this process lives.")
@recipe_argument
@click.option("--cron", required=True, help="When to run: minute, hour, day, month, weekday.")
@click.option(
    "--name",
    callback=without_credentials,
    help="The deployment's name, and that of its runs; default: the recipe's name.",
)
@click.option(
    "--timezone", default="UTC", show_default=True, help="The time zone of the cron expression."
)
@device_option
@threads_option
@strict_option
@home_option
@json_option
def schedule(
    recipe: Path,
    cron: str,
    name: str | None,
    timezone: str,
    device: str,
    threads: int | None,
    strict: bool,
    home: Home,
    as_json: bool,
) -> None:
    """Run RECIPE's flow whenever it is due, until interrupted.

    A Prefect server is started for it and ends with it, unless PREFECT_API_URL names yours.

    Example: `rarefy schedule demo.yaml --cron "0 3 * * *"`
    """
    from rarefy.flows.run import job as jobs
    from rarefy.flows.server import guard, prefect_settings
    from rarefy.flows.server import server as prefect_server
    from rarefy.pipeline.recipe import recipe as recipes

    loaded = recipes.load(recipe)
    job = replace(
        job_of(recipe, jobs.folder_name(name, loaded.recipe.name), device, home, given_where()),
        threads=threads,
        strict=strict,
    )
    jobs.open_run(job, loaded)
    prefect_settings.prepare(home.prefect, verbose=True)
    when = cron_schedule(cron, timezone)
    own = prefect_server.api_url() is None
    if not own:
        url = prefect_server.require("a schedule", as_given())
        prefect_server.say_if_it_forgets(url)
    from prefect.settings import get_current_settings
    from prefect.types.entrypoint import EntrypointType

    from rarefy.flows.run.flow import compress as flow
    from rarefy.flows.run.flow import tags_of

    deployment = name or loaded.recipe.name
    served = {"deployment": f"{flow.name}/{deployment}", "cron": cron, "timezone": timezone}
    name = served["deployment"]
    if own:
        click.echo("starting Prefect", err=True)
    with guard.running(deployments=True):
        if as_json:
            show_json(served | {"parameters": job.parameters})
        click.echo(f"serving {name} at {cron!r} ({timezone}); press Ctrl-C to stop", err=True)
        now = shlex.join(["prefect", "deployment", "run", name])
        if own:
            now = f"PREFECT_API_URL={get_current_settings().api.url} {now}"
        click.echo(f"to run it now: {now}", err=True)
        # A module path: a file path would be relative to the current folder.
        flow.serve(
            name=deployment,
            schedule=when,
            parameters=job.parameters,
            tags=tags_of(loaded.recipe.name),
            limit=1,
            pause_on_shutdown=False,  # who restarts this process would lose the nights in between
            print_starting_message=False,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )


def job_of(recipe: Path, folder: str, device: str, home: Home, given: Mapping[str, Any]) -> Job:
    """Return the job of a scheduled run. Its paths are absolute: it may start in any folder.

    ``folder``: the name of its runs' folder. ``given``: the options of `rarefy run` that do the
    same.
    """
    from rarefy.flows.run import job as jobs

    path = recipe.resolve()
    return jobs.Job(
        recipe=str(path),
        home=str(home.path.resolve()),
        out=str(home.runs.resolve() / folder),
        device=device,
        threads=None,
        command=shlex.join(["rarefy", "run", *jobs.words(given), str(path)]),
    )


def cron_schedule(cron: str, timezone: str) -> Any:
    """Return Prefect's schedule.

    Raises RecipeError if the expression or the time zone is invalid, or no time fits it.
    """
    import asyncio

    from prefect.client.schemas.schedules import CronSchedule
    from prefect.schedules import Cron
    from prefect.server.schemas import schedules as on_server
    from pydantic import ValidationError

    from rarefy.pipeline.terms.errors import RecipeError

    if len(cron.split()) > FIELDS:  # Prefect would take the sixth for seconds: 60 runs in a minute
        raise RecipeError(
            f"--cron {cron!r}: expected five fields: minute, hour, day, month, weekday"
        )
    try:
        CronSchedule(cron=cron, timezone=timezone)
        asyncio.run(on_server.CronSchedule(cron=cron, timezone=timezone).get_dates(1))
    except ValidationError as error:
        first = error.errors()[0]
        key = f"--{first['loc'][0]}" if first["loc"] else "--cron"
        message = first["msg"].removeprefix("Value error, ")
        value = cron if key == "--cron" else timezone
        raise RecipeError(f"{key} {value!r}: {message}") from None
    except ValueError:
        raise RecipeError(f"--cron {cron!r}: no such time exists") from None
    return Cron(cron, timezone=timezone)
