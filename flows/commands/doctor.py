"""``rarefy doctor``: check what this machine has, what it lacks, and how to fix it."""

from __future__ import annotations

from dataclasses import asdict

import rich_click as click

from rarefy.flows.console.options import (
    home_option,
    json_option,
    plain_table,
    show_json,
    show_table,
)
from rarefy.pipeline.store.home import Home

SIGNS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


@click.command(short_help="Check this machine: what is missing, and how to fix it.")
@home_option
@json_option
def doctor(home: Home, as_json: bool) -> int:
    """Check Python, libraries, providers, CPU, memory, disk, store, Prefect and GPU.

    The exit code is 5 if something required is missing; missing optional parts only give a warning.

    Example: `rarefy doctor`
    """
    from rich.text import Text

    from rarefy.flows import doctor as checks
    from rarefy.pipeline.terms.errors import ProviderError

    results = checks.run_all(home.path)
    failed = [check for check in results if check.state == "fail"]
    code = ProviderError.exit_code if failed else 0
    if as_json:
        show_json({"exit_code": code, "checks": [asdict(check) for check in results]})
        return code
    table = plain_table("state", "name", "found", whole=("state", "name"))
    table.show_header = False
    for check in results:
        sign, colour = SIGNS[check.state]
        table.add_row(Text(f"{sign} {check.state}", colour), check.name, check.found)
        if check.fix:
            table.add_row("", "", check.fix)
    show_table(table)
    if failed:
        click.echo(f"{len(failed)} failed: {', '.join(c.name for c in failed)}", err=True)
    return code
