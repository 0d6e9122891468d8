"""Options that several commands share, and how they speak: data on stdout, the rest on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from pipeline.store.home import Home

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.terms.vocabulary import Data


def home_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--home``, given to the command as ``home: Home``."""
    return click.option(
        "--home",
        default=".rarefy",
        envvar="RAREFY_HOME",
        show_default=True,
        show_envvar=True,
        metavar="DIR",
        callback=lambda _context, _parameter, value: Home(Path(value).expanduser()),
        help="Where artifacts and reports are kept.",
    )(command)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json``, given to the command as ``as_json: bool``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(command)


def device_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--device``, given to the command as ``device: str``."""
    return click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help="Where training runs; what it made is found by it.",
        callback=lambda _context, _parameter, value: _device(value),
    )(command)


def _device(value: str) -> str:
    if value != "auto":
        return value
    from pipeline.run.engine import default_device

    return default_device()


def first_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--first``, given to the command as ``first: bool``."""
    return click.option(
        "--first",
        is_flag=True,
        help="A first release: leave out budgets against a tag that is not there yet.",
    )(command)


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--engine``, ``--device`` and ``--threads``: how a recipe is run."""
    engine = click.option(
        "--engine",
        type=click.Choice(["prefect", "inline"]),
        default="prefect",
        show_default=True,
        help="Run as a Prefect flow, or the same engine without Prefect.",
    )
    threads = click.option(
        "--threads", type=click.IntRange(1), help="Training threads; default: all cores."
    )
    return engine(device_option(threads(command)))


def recipe_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument RECIPE, given to the command as ``recipe: Path``."""
    return click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))(command)


def rows_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--recipe``, ``--data`` (as ``table``), ``--text`` and ``--provider``."""
    file = click.Path(path_type=Path, dir_okay=False)
    for option in (
        click.option("--provider", type=click.Choice(["cpu", "cuda", "tensorrt"]), default="cpu"),
        click.option(
            "--text", multiple=True, default=("text",), help="Its text column; twice for pairs."
        ),
        click.option("--data", "table", type=file, help="A file of rows, instead of the split."),
        click.option("--recipe", type=file, help="Whose eval split; default: that of the run."),
    ):
        command = option(command)
    return command


def rows_of(table: Path, text: tuple[str, ...], label: str = "label") -> Data:
    """Return how a file given by ``--data`` is read."""
    from pipeline.terms.vocabulary import Data

    path = str(table.resolve())
    return Data(train=path, eval=path, text=text[0] if len(text) == 1 else text, label=label)


def verbose() -> bool:
    """Say whether ``rarefy -v`` was asked for."""
    context = click.get_current_context()
    return bool(context.parent and context.parent.params["verbose"])


def show_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def stderr() -> Console:
    """Return the console for people: progress and tables that are not the command's data."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def stdout() -> Console:
    """Return the console for a command's data when it is read by a person.

    In a pipe there is no width to keep to: lines stay whole for grep.
    """
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 400)
