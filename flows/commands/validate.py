"""``rarefy validate``: measure a bundle again on this machine and judge it by a recipe's budgets.

No stage runs.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import rich_click as click

from rarefy.flows.console import completion
from rarefy.flows.console.options import (
    device_option,
    first_option,
    home_option,
    json_option,
    show_json,
    stderr,
)
from rarefy.pipeline.store.home import Home


@click.command(short_help="Measure a bundle again on this machine and judge it.")
@click.argument("bundle", shell_complete=completion.runs_and_tags)
@click.option(
    "--recipe",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Use this recipe's eval split and budgets; default: the run's own recipe.",
)
@click.option("--strict", is_flag=True, help="Exit 4 if a budget is inconclusive.")
@first_option
@partial(device_option, help="Where the recipe's run trained: the store has its models by device.")
@home_option
@json_option
def validate(
    bundle: str,
    recipe: Path | None,
    strict: bool,
    first: bool,
    device: str,
    home: Home,
    as_json: bool,
) -> int:
    """Measure BUNDLE (a run, a folder, a tag or a digest) again and judge it; no stage runs.

    Measures accuracy on the recipe's eval split, latency compared with the references in the
    store, size and memory, and gives a verdict on the recipe's budgets.

    Example: `rarefy validate production --recipe demo.yaml`
    """
    from rarefy.flows.console.display import Display, show_verdict, verdict_line
    from rarefy.flows.run import remeasure

    console = stderr()
    with Display(console, quiet=as_json) as display:
        display.started("validate")
        measured = remeasure.validate(
            bundle, home, recipe=recipe, device=device, first=first, progress=display.progress
        )
        for warning in measured.warnings:
            display.say(f"note: {warning}", "yellow")
    judged, code = measured.verdict, measured.exit_code(strict)
    if as_json:
        summary = {
            "bundle": measured.bundle.digest,
            "exit_code": code,
            "warnings": measured.warnings,
            "absent": measured.absent,
        }
        show_json(summary | judged.model_dump(mode="json", by_alias=True))
        return code
    show_verdict(judged, console, measured.measurements)
    click.echo(verdict_line(judged, measured.absent))
    return code
