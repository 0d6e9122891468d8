"""How much commands say: ``--verbose`` and ``--quiet``, before the command's name or after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import rich_click as click

NAMES: Final = ("verbose", "quiet")


def _keep(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Keep a flag that was given, wherever it stood, for ``is_on``."""
    if value:
        context.find_root().meta[f"rarefy.{parameter.name}"] = True


def _options() -> list[click.Option]:
    verbose = click.RichOption(
        ["-v", "--verbose"],
        is_flag=True,
        expose_value=False,
        callback=_keep,
        help="Show tracebacks and the libraries' logs.",
    )
    quiet = click.RichOption(
        ["-q", "--quiet"],
        is_flag=True,
        expose_value=False,
        callback=_keep,
        help="Show no progress, only the result and errors.",
    )
    return [verbose, quiet]


def volume_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command that is being defined."""
    parameters = getattr(command, "__click_params__", [])
    command.__click_params__ = [*_options(), *parameters]  # type: ignore[attr-defined]
    return command


def accept_volume(command: click.Command) -> None:
    """Add the options to a command, and to the commands of a group, unless they have them."""
    names = {parameter.name for parameter in command.params}
    if not names.issuperset(NAMES):
        command.params.extend(_options())
    if isinstance(command, click.Group):
        for below in command.commands.values():
            accept_volume(below)


def is_on(name: str) -> bool:
    """Return whether ``verbose`` or ``quiet`` was given; False outside a command."""
    context = click.get_current_context(silent=True)
    if context is None:
        return False
    return bool(context.find_root().meta.get(f"rarefy.{name}"))
