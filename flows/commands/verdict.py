"""``rarefy verdict``: what another pipeline may ask of a verdict."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from rarefy.flows.console.options import json_option, show_json


@click.group(short_help="Check that a verdict is about the bytes of a bundle.")
def verdict() -> None:
    """Check a verdict in a pipeline that did not make it."""


@verdict.command(short_help="Check that verdict.json is about the bundle in a folder.")
@click.argument("verdict", type=click.Path(path_type=Path))
@click.option(
    "--bundle",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder of the bundle.",
)
@json_option
def check(verdict: Path, bundle: Path, as_json: bool) -> int:
    """Check that the file VERDICT, a verdict.json, is about the bundle in DIR, and is a pass.

    Every file of the bundle is hashed and compared with its manifest.json, whose digest the verdict
    names. The store and the run are not needed. The file is not signed: whoever can replace both
    VERDICT and DIR can make a pass.

    Exit codes: 0 pass · 3 budget missed · 4 inconclusive · 6 the bytes differ, or the verdict
    is damaged.

    Example: `rarefy verdict check rarefy-ci/verdict.json --bundle rarefy-ci/bundle`
    """
    from rarefy.pipeline.release import verdict_check

    checked = verdict_check.check(verdict, bundle)
    code = checked.exit_code(strict=True)
    reasons = [*checked.missed, *checked.evidence, *checked.undecided]
    if as_json:
        show_json(
            {
                "verdict": str(verdict),
                "bundle": str(bundle),
                "digest": checked.bundle,
                "outcome": checked.outcome,
                "reasons": reasons,
                "warned": checked.warned,
                "exit_code": code,
            }
        )
        return code
    click.echo(f"{checked.outcome}: the verdict is about these bytes, {checked.bundle}")
    for reason in reasons:
        click.echo(reason, err=True)
    return code
