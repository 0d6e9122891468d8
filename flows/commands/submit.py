"""``rarefy submit``: start a run of a deployment, and wait for its verdict if asked."""

from __future__ import annotations

from dataclasses import asdict

import rich_click as click

from rarefy.flows.console.options import home_option, json_option, show_json
from rarefy.pipeline.store.home import Home


@click.command(short_help="Start a run of a deployment, and wait for its verdict if asked.")
@click.argument("deployment")
@click.option("--watch", is_flag=True, help="Show the run's log, and exit as `rarefy run` does.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="With --watch: exit 5 if the run has not ended by then; the run continues.",
)
@home_option
@json_option
def submit(deployment: str, watch: bool, timeout: float | None, home: Home, as_json: bool) -> int:
    """Start a run of DEPLOYMENT on the server that PREFECT_API_URL names.

    With --watch, the exit code is that of the verdict: 0 pass, 3 budget missed, 4 no verdict, 2
    invalid recipe, 5 something is missing on the worker, 1 crash. Ctrl-C stops watching, not the
    run.

    If no worker picks up the run, a message reports it and the command keeps waiting. If the server
    does not respond for five minutes, the exit code is 5.

    Example: `rarefy submit demo --watch`
    """
    if timeout is not None and not watch:
        raise click.UsageError("--timeout needs --watch")
    from rarefy.flows.server import prefect_settings
    from rarefy.flows.server import server as prefect_server
    from rarefy.pipeline.terms.errors import RarefyError

    prefect_settings.prepare(home.prefect)
    prefect_server.require("to submit a run", f"rarefy submit {deployment}")
    from rarefy.flows.deploy import submitted

    run = submitted.submit(deployment)
    facts = {"flow_run": str(run.id), "name": run.name}
    click.echo(f"started {run.name} ({run.id})", err=True)
    if not watch:
        if as_json:
            show_json(facts)
        else:
            click.echo(str(run.id))
        return 0
    try:
        ended = submitted.watch(run.id, lambda line: click.echo(line, err=True), timeout=timeout)
    except RarefyError as error:
        return _left(str(error), error.exit_code, facts, as_json)
    except KeyboardInterrupt:
        why = f"interrupted; the run continues, and {submitted.GOES_ON}"
        return _left(why, submitted.INTERRUPTED, facts, as_json)
    if as_json:
        show_json(facts | asdict(ended))
        return ended.exit_code
    if ended.report:
        click.echo(f"report   {ended.report}", err=True)
    click.echo(f"{ended.state}: {ended.message}" if ended.message else ended.state)
    return ended.exit_code


def _left(why: str, code: int, facts: dict[str, str], as_json: bool) -> int:
    """Say why the watching ended before the run, and with --json which run it is."""
    if as_json:
        show_json(facts | {"error": why, "exit_code": code})
    click.echo(f"rarefy: {why}", err=True)
    return code
