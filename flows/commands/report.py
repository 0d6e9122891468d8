"""``rarefy report``: locate, open or print the report of a run."""

from __future__ import annotations

import os
from pathlib import Path

import rich_click as click

from rarefy.flows.console import completion
from rarefy.flows.console.options import home_option, json_option, show_json
from rarefy.pipeline.store.home import Home

FORMATS = {"html": "report.html", "markdown": "summary.md"}


@click.command(short_help="Print the path of a run's report, open it, or print it.")
@click.argument("run", metavar="[RUN]", required=False, shell_complete=completion.runs)
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "markdown", "json"]),
    help="Print the report in this format.",
)
@click.option("--open", "show", is_flag=True, help="Open the report in the browser.")
@home_option
@json_option
def report(run: str | None, form: str | None, show: bool, home: Home, as_json: bool) -> None:
    """Render the report of RUN (a name or folder; default: the latest) again and print its path.

    Examples: `rarefy report --open`, `rarefy report demo --format markdown`
    """
    from rarefy.pipeline.run import folder
    from rarefy.pipeline.terms.errors import RecipeError, first_line
    from rarefy.pipeline.terms.wording import escaped_json

    if as_json and form in FORMATS:
        raise click.UsageError(f"--format {form} and --json exclude each other")
    directory = find_run(run, home)
    try:
        data = folder.read(directory)
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise RecipeError(f"{directory / 'run.json'} is not a run's record: {reason}") from None
    if form == "json":
        click.echo(escaped_json(data.model_dump_json(by_alias=True, indent=1)))
        return
    path = directory / FORMATS["html"]
    page = directory / FORMATS[form or "html"]
    if os.access(directory, os.W_OK) or not page.is_file():
        folder.draw(data, directory)
    else:  # e.g. another user's
        click.echo(f"{directory} cannot be written: its report is not rendered again", err=True)
    if form is not None:
        click.echo(page.read_text(encoding="utf-8"), nl=False)
    elif as_json:
        outcome = data.verdict.outcome if data.verdict else None
        show_json({"run": data.name, "report": str(path), "verdict": outcome})
    else:
        click.echo(str(path))
    if show:
        click.launch(path.resolve().as_uri())


def find_run(reference: str | None, home: Home) -> Path:
    """Return the folder of a run by its name or path; by default that of the latest run.

    Raises RecipeError if there is no such run.
    """
    from rarefy.pipeline.terms.errors import RecipeError

    if reference is None:
        records = list(home.runs.glob("*/run.json"))
        if not records:
            raise RecipeError(f"{home.runs}: no run yet; start one with `rarefy run RECIPE`")
        return max(records, key=lambda path: path.stat().st_mtime).parent
    for directory in home.folders(reference):
        if (directory / "run.json").is_file():
            return directory
    names = sorted(path.parent.name for path in home.runs.glob("*/run.json"))
    raise RecipeError(f"{reference}: no such run; available: {', '.join(names) or 'none'}")
