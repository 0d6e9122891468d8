"""``rarefy doctor``: check what this machine has, what it lacks, and how to fix it."""

from __future__ import annotations

from dataclasses import asdict

import rich_click as click

from rarefy.flows.console.options import home_option, json_option, show_json, stdout
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
    console = stdout()
    for check in results:
        sign, colour = SIGNS[check.state]
        line = Text(f"{sign} {check.state:<5}", colour)
        line.append(f"{check.name:<14} {check.found}", "default")
        if check.fix:
            line.append(f"\n        {'':<14} {check.fix}", "default")
        console.print(line, soft_wrap=True)
    if failed:
        click.echo(f"{len(failed)} failed: {', '.join(c.name for c in failed)}", err=True)
    return code
