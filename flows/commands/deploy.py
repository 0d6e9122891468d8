"""``rarefy deploy``: let the workers of a Prefect work pool run a recipe, on a schedule or not."""

from __future__ import annotations

import shlex
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from rarefy.flows.console.options import (
    as_given,
    command_line_option,
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
    from rarefy.flows.deploy.deployment import Deployment
    from rarefy.pipeline.recipe.recipe import LoadedRecipe

APPLY = "import rarefy.flows.run.flow, prefect.cli; prefect.cli.app()"
"""Prefect's command line, in a folder that may have a ``flows`` of its own.

Prefect imports a flow from its working folder first, unless it is imported already.
"""


@click.command(short_help="Let the workers of a Prefect work pool run a recipe.")
@recipe_argument
@click.option("--pool", required=True, help="The work pool whose workers run it.")
@click.option(
    "--type", "kind", help="The pool's type; default: the type on the server, or process."
)
@click.option(
    "--name",
    callback=without_credentials,
    help="The deployment's name, and that of its runs; default: the recipe's name.",
)
@click.option("--cron", help="When to run: minute, hour, day, month, weekday; default: on demand.")
@click.option(
    "--timezone", default="UTC", show_default=True, help="The time zone of the cron expression."
)
@click.option(
    "--git",
    metavar="REPO@REV:PATH",
    help="The recipe's location in a git repository; default: it is sent to --store.",
)
@command_line_option("store", callback=without_credentials)
@click.option(
    "--report-url",
    metavar="URL",
    callback=without_credentials,
    help="URL of the store's runs/ folder, for links to reports.",
)
@click.option(
    "--machine",
    metavar="NAME",
    callback=without_credentials,
    help="The machine that measures; default: the worker's.",
)
@click.option(
    "--when-busy",
    "busy",
    type=click.Choice(["wait", "skip"]),
    default="wait",
    show_default=True,
    help="What a run does while another run of the deployment is in progress.",
)
@command_line_option("device", help="Where training runs on the worker.")
@threads_option
@strict_option
@click.option(
    "--tag",
    "tags",
    multiple=True,
    callback=without_credentials,
    help="A tag of its flow runs; repeat the option for several.",
)
@click.option(
    "--job-variable",
    "variables",
    multiple=True,
    metavar="KEY=VALUE",
    callback=without_credentials,
    help="A variable of the work pool's job, KEY=VALUE; repeat the option for several.",
)
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    default="prefect.yaml",
    show_default=True,
    help="The file to write.",
)
@click.option("--write-only", is_flag=True, help="Write the file without contacting the server.")
@home_option
@json_option
def deploy(
    recipe: Path,
    pool: str,
    kind: str | None,
    cron: str | None,
    timezone: str,
    file: Path,
    write_only: bool,
    home: Home,
    as_json: bool,
    **options: Any,
) -> None:
    """Write RECIPE's deployment to prefect.yaml and apply it, for a worker on any machine.

    The worker needs rarefy and the server's address. Prefect fetches the recipe from --git;
    without it, the recipe and the files that it names are sent to --store.

    Example: `rarefy deploy demo.yaml --pool nightly --cron "0 3 * * *" --store s3://models/rarefy`
    """
    from rarefy.flows.commands.schedule import cron_schedule
    from rarefy.flows.deploy import deployment
    from rarefy.flows.server import prefect_settings
    from rarefy.flows.server import server as prefect_server
    from rarefy.flows.sharing import recipe_source
    from rarefy.pipeline.recipe import recipe as recipes

    loaded = recipes.load(recipe)
    git = options["git"]
    deployment.check_portable(loaded, recipe_source.InGit.parse(git) if git else None)
    variables = dict(map(deployment.variable, options["variables"]))
    prefect_settings.prepare(home.prefect)
    if cron is not None:  # an empty one, as of an unset variable, would end the schedule
        cron_schedule(cron, timezone)
    if write_only:
        kind, template = kind or "process", deployment.template_of(kind or "process")
    else:
        prefect_server.require("a deployment", as_given())
        kind, template = _pool(pool, kind)
    deployment.check_variables(variables, template, pool, kind)
    source = publish_recipe(recipe, options, write_only)
    if not write_only:
        _check(source, loaded, home)
    parameters = ("store", "report_url", "machine", "device", "threads", "strict")
    made = deployment.Deployment(
        name=options["name"] or loaded.recipe.name,
        loaded=loaded,
        source=source,
        pool=pool,
        cron=cron,
        timezone=timezone,
        busy=options["busy"],
        tags=options["tags"],
        parameters={name: options[name] or None for name in parameters},
        job_variables=variables,
    )
    _write(made, file)
    if not write_only:
        _apply(made, file, options["machine"])
    _say(made, file, kind, write_only, as_json)


def publish_recipe(recipe: Path, options: dict[str, Any], write_only: bool) -> str:
    """Return the recipe's address for workers; send it to the store if it is nowhere else."""
    from rarefy.flows.sharing import recipe_source
    from rarefy.pipeline.store.remote import artifacts
    from rarefy.pipeline.terms.errors import RecipeError

    git, store = options["git"], options["store"]
    if store:
        if "://" not in store:
            raise RecipeError(f"--store {store}: expected a URL, e.g. s3://models/rarefy")
        artifacts.check_url(store)
        if not write_only:
            artifacts.Remote.open(store).check_writable()  # or runs would notice it at their end
    if options["report_url"] and not store:
        raise RecipeError("--report-url needs a --store, to which reports are sent")
    if git:
        return str(recipe_source.InGit.parse(git))
    if not store:
        raise RecipeError(
            f"a worker elsewhere cannot read {recipe}: give its location in a repository with "
            "--git, or a --store to send it to"
        )
    return recipe_source.send(recipe, store)


def _check(source: str, loaded: LoadedRecipe, home: Home) -> None:
    """Let Prefect fetch the recipe as a worker will, and plan it.

    Raises RecipeError if it differs from the one that was given, and what planning raises.
    """
    from rarefy.flows.sharing import recipe_source
    from rarefy.pipeline.recipe import recipe as recipes
    from rarefy.pipeline.run.plan.plan import Plan
    from rarefy.pipeline.terms.errors import RecipeError

    with tempfile.TemporaryDirectory(prefix="rarefy-deploy-") as folder:
        fetched = recipes.load(recipe_source.fetch(source, Path(folder)))
        if fetched.text != loaded.text:
            raise RecipeError(
                f"{source} is not the same as {loaded.where.source}; publish your changes first"
            )
        Plan(fetched, home.store()).steps()


def _pool(pool: str, kind: str | None) -> tuple[str, dict[str, Any]]:
    """Return the type and the job template of a work pool of the server."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    from rarefy.pipeline.terms.errors import RecipeError

    with get_client(sync_client=True) as client:
        try:
            work_pool = client.read_work_pool(pool)
        except ObjectNotFound:
            raise RecipeError(
                f"--pool {pool}: the server has no such work pool; to create one: "
                f"prefect work-pool create {shlex.quote(pool)} --type {kind or 'process'}"
            ) from None
    if kind not in (None, work_pool.type):
        raise RecipeError(f"--type {kind}: the work pool {pool!r} is of the type {work_pool.type}")
    return work_pool.type, work_pool.base_job_template


def _write(made: Deployment, file: Path) -> None:
    from rarefy.flows.deploy import deployment
    from rarefy.flows.run.flow import tags_of

    deployment.write(file, made.entry(tags_of(made.loaded.recipe.name)), version("prefect"))


def _apply(made: Deployment, file: Path, machine: str | None) -> None:
    """Apply the file's entry with Prefect's own command. Raises ProviderError if it fails."""
    import os
    import subprocess
    import sys

    from rarefy.flows.deploy import deployment
    from rarefy.flows.server import limits
    from rarefy.pipeline.terms.errors import ProviderError

    if machine:
        limits.create(limits.name(machine))
    command = ["--no-prompt", "deploy", "--prefect-file", file.name, "--name", made.name]
    done = subprocess.run(
        [sys.executable, "-P", "-c", APPLY, *command],
        cwd=file.resolve().parent,
        env=os.environ | deployment.CLEARS,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else "it said nothing"
        raise ProviderError(f"prefect deploy failed: {reason} ({file} is written)")


def _say(made: Deployment, file: Path, kind: str, write_only: bool, as_json: bool) -> None:
    from rarefy.flows.deploy.deployment import CLEARS, RUN_HERE
    from rarefy.flows.run.flow import NAME
    from rarefy.flows.server import server as prefect_server

    full = f"{NAME}/{made.name}"
    url = prefect_server.api_url()
    if not write_only and url:
        prefect_server.say_if_it_forgets(url)
    if kind not in RUN_HERE:
        click.echo(
            f"note: the file was checked against Prefect's schema of {kind} pools; rarefy's tests "
            "run process pools only",
            err=True,
        )
    if as_json:
        facts = {"deployment": full, "version": made.version, "recipe": made.source}
        show_json({**facts, "file": str(file), "pool": made.pool, "applied": not write_only})
        return
    click.echo(f"{full} {made.version}: {'written to' if write_only else 'applied from'} {file}")
    if write_only:
        settings = [f"{name}={value}" for name, value in CLEARS.items()]
        apply = ["prefect", "deploy", "--prefect-file", str(file), "--name", made.name]
        click.echo(f"to apply it: {shlex.join([*settings, *apply])}", err=True)
    else:
        now = shlex.join(["rarefy", "submit", made.name, "--watch"])
        click.echo(f"to run it now: {now}", err=True)
