"""The options of a run: commands, Prefect's flow and ``rarefy.run`` take them from here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import rich_click as click


def _option(default: Any, about: str, **arguments: Any) -> Any:
    """Return a field whose metadata are the arguments of ``click.option``."""
    return field(default=default, metadata={"help": about, **arguments})


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a recipe is run, as plain values.

    This is no pydantic class, because ``rarefy --help`` would wait for pydantic.
    """

    device: str = _option(
        "auto",
        "Where training runs; artifacts are cached separately for each device.",
        type=click.Choice(["auto", "cpu", "cuda"]),
        show_default=True,
    )
    threads: int | None = _option(
        None, "Threads for training; default: all available cores.", type=click.IntRange(1)
    )
    first: bool = _option(
        False,
        "For a first release: skip budgets against a tag that does not exist yet.",
        is_flag=True,
    )
    fresh: bool = _option(
        False,
        "Ignore cached results: compute and measure everything again.",
        is_flag=True,
    )
    strict: bool = _option(False, "Exit 4 if a budget is inconclusive.", is_flag=True)
    baseline: str | None = _option(
        None, "Compare the candidate with TAG, or with URL#TAG.", metavar="TAG"
    )
    store: str | None = _option(
        None,
        "A store that workers share: runs reuse its artifacts, and passing runs publish there.",
        metavar="URL",
    )


def command_line_option(name: str, **changes: Any) -> Any:
    """Return the decorator that adds an option to a command, which is given it by its name.

    Args:
        name: A field of RunOptions.
        changes: Arguments of ``click.option`` that differ for this command.
    """
    option = RunOptions.__dataclass_fields__[name]
    arguments = {"default": option.default, **option.metadata, **changes}
    return click.option(f"--{name}", **arguments)
