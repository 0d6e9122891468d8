"""Options that several commands share, and their output: data on stdout, the rest on stderr."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import rich_click as click
from click.core import ParameterSource

from rarefy.flows.console import terminal
from rarefy.pipeline.store import home
from rarefy.pipeline.terms.wording import escaped_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from rarefy.pipeline.terms.recipe_parts import Data


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


NO_LABEL = "none"
"""What --label is given for rows without labels."""
INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 + SIGINT."""
PIPE = 400
"""Characters of a line of text in a pipe, which no terminal's width breaks."""


class Folder(click.Path):
    """A folder that need not exist; it is no file, and not the empty text of an unset variable."""

    def __init__(self, path_type: type[Path] | None = None) -> None:
        super().__init__(file_okay=False, readable=False, path_type=path_type)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the folder's name is empty", param, ctx)
        for around in Path(value).parents:
            if os.path.isfile(around):  # noqa: PTH113 (it raises nothing for a closed folder)
                self.fail(f"{around} is a file", param, ctx)
        return super().convert(value, param, ctx)


def home_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--home``, given to the command as ``home: Home``."""
    return click.option(
        "--home",
        type=Folder(),
        default=home.DEFAULT,
        envvar=home.VARIABLE,
        show_default=True,
        show_envvar=True,
        metavar="DIR",
        callback=lambda *given: home.Home.of(without_credentials(*given)),
        help="The folder for artifacts and reports.",
    )(command)


def without_credentials(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
    """Return an option's value, or values; raise RecipeError if one has a URL with credentials."""
    from rarefy.pipeline.terms import credentials
    from rarefy.pipeline.terms.errors import RecipeError

    for each in value if isinstance(value, tuple) else (value,):
        if each is not None and credentials.found_in(str(each)):
            raise RecipeError(credentials.REFUSED)
    return value


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json``, given to the command as ``as_json: bool``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(command)


def device_option(command: Callable[..., Any], **changes: Any) -> Callable[..., Any]:
    """Add ``--device``, given to the command as ``device: str``, which is never "auto"."""
    resolved = command_line_option(
        "device", callback=lambda _context, _parameter, value: _device(value), **changes
    )
    return resolved(command)  # type: ignore[no-any-return]


def _device(value: str) -> str:
    if value != "auto":
        return value
    from rarefy.pipeline.measure.machine import default_device

    return default_device()


first_option = command_line_option("first")
fresh_option = command_line_option("fresh")
strict_option = command_line_option("strict")
threads_option = command_line_option("threads")


def no_code_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--no-code``, given to the command as ``no_code: bool``."""
    return click.option(
        "--no-code",
        is_flag=True,
        help="Do not import the recipe's own modules: for recipes that you do not trust.",
    )(command)


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--engine``, ``--device`` and ``--threads``, which say how to run a recipe."""
    engine = click.option(
        "--engine",
        type=click.Choice(["prefect", "inline"]),
        default="prefect",
        show_default=True,
        help="Run as a Prefect flow, or inline without Prefect.",
    )
    return engine(device_option(threads_option(command)))


def given_where() -> dict[str, Any]:
    """Return ``--device`` and ``--threads``, if the command was given them, with their values."""
    context = click.get_current_context()
    return {
        f"--{name}": context.params[name]
        for name in ("device", "threads")
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }


def stated_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--license``, ``--base-model`` and ``--dataset``, for the model card.

    They are given to the command as ``licence``, ``base`` and ``datasets``.
    """
    for option in (
        click.option(
            "--dataset",
            "datasets",
            multiple=True,
            metavar="OWNER/NAME",
            help="A data set on the Hub that the model was trained on; may be repeated.",
        ),
        click.option(
            "--base-model",
            "base",
            metavar="OWNER/NAME",
            help="The base model on the Hub; default: the recipe's model, if it is on the Hub.",
        ),
        click.option(
            "--license",
            "licence",
            metavar="ID",
            help="The license, as the Hub writes it, e.g. apache-2.0; default: the base model's.",
        ),
    ):
        command = option(command)
    return command


def tracking_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--tracking-uri``, given to the command as ``tracking: str | None``."""
    return click.option(
        "--tracking-uri",
        "tracking",
        metavar="URI",
        callback=without_credentials,
        help="MLflow's tracking server; default: MLFLOW_TRACKING_URI.",
    )(command)


def alias_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--mlflow`` (as ``registered``) and ``--tracking-uri`` (as ``tracking``)."""
    return click.option(
        "--mlflow",
        "registered",
        metavar="NAME",
        help="Also move this MLflow model's alias TAG.",
    )(tracking_option(command))


def recipe_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument RECIPE, given to the command as ``recipe: Path``."""
    return click.argument(
        "recipe", type=click.Path(path_type=Path, dir_okay=False), callback=_no_example
    )(command)


def _no_example(_context: click.Context, _parameter: click.Parameter, recipe: Path) -> Path:
    """Return the path of a recipe. Raises RecipeError if it is the name of an example instead."""
    if len(recipe.parts) != 1 or recipe.suffix or recipe.exists():
        return recipe
    from rarefy.flows.new_recipe.examples import examples
    from rarefy.pipeline.terms.errors import RecipeError

    if str(recipe) in [example.name for example in examples()]:
        raise RecipeError(
            f"{recipe}: no such recipe; `rarefy recipe cp {recipe}` copies the example of this name"
        )
    return recipe


def provider_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--provider``, given to the command as ``provider``; see ``chosen_provider``."""
    names = ["cpu", "cuda", "tensorrt", "openvino"]
    return click.option(
        "--provider",
        type=click.Choice(names),
        metavar="NAME",
        help="cpu, cuda or tensorrt of ONNX Runtime, or openvino; default: the bundle's own.",
    )(command)


def rows_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--recipe``, ``--data`` (as ``table``), ``--text`` and ``--provider``."""
    file = click.Path(path_type=Path, dir_okay=False)
    for option in (
        provider_option,
        click.option(
            "--text",
            multiple=True,
            default=("text",),
            show_default=True,
            help="The text column of --data; repeat the option for sentence pairs.",
        ),
        click.option("--data", "table", type=file, help="Use this file instead of an eval split."),
        click.option(
            "--recipe", type=file, help="Use this recipe's eval split; default: the run's own."
        ),
    ):
        command = option(command)
    return command


def rows_of(table: Path, text: tuple[str, ...], label: str = "label") -> Data:
    """Return the data description for a file given by ``--data``; ``none``: it has no labels."""
    from rarefy.pipeline.terms.recipe_parts import Data

    path, column = str(table.absolute()), None if label == NO_LABEL else label
    return Data(train=path, eval=path, text=text[0] if len(text) == 1 else text, label=column)


def verbose() -> bool:
    """Return whether ``--verbose`` was given."""
    return terminal.is_on("verbose")


def show_json(value: Any) -> None:
    """Print a value as JSON on stdout; a number that is not finite, which JSON lacks, is null."""
    text = json.dumps(_finite(value), indent=1, ensure_ascii=False, default=str)
    click.echo(escaped_json(text))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def stderr() -> Console:
    """Return the console for progress and for tables that are not the command's data.

    With ``--quiet``, it shows nothing.
    Like every console here, it shows text as it is: a label may be ``[bold]`` or ``:dog:``.
    """
    from rarefy.flows.console.terminal import Console

    quiet = terminal.is_on("quiet")
    return Console(stderr=True, highlight=False, markup=False, emoji=False, quiet=quiet)


def stdout() -> Console:
    """Return the console for a command's data in readable form.

    In a pipe, lines are not wrapped, which keeps them whole for grep.
    """
    from rarefy.flows.console.terminal import Console

    width = None if sys.stdout.isatty() else PIPE
    return Console(width=width, highlight=False, markup=False, emoji=False)


def plain_table(*columns: str, right: Collection[str] = (), whole: Collection[str] = ()) -> Table:
    """Return a table without lines.

    Args:
        columns: The headings.
        right: Those of numbers, which end below each other.
        whole: Those whose cells are not wrapped.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        justify: Literal["right", "left"] = "right" if column in right else "left"
        table.add_column(column, justify=justify, no_wrap=column in whole)
    return table


def show_table(table: Table, console: Console | None = None) -> None:
    """Print a table, by default on stdout, with every column and every word whole.

    rich would cut words off until the table fits. Here cells are only wrapped between words, and
    those of a column with ``no_wrap`` not at all. Rows that do not fit a terminal that way are
    shown as records, a line for each cell. Elsewhere they are whole lines.
    """
    console = console or stdout()
    width = console.width
    if not _fits(table, console) and console.is_terminal:
        table = _records(table)
    if not _fits(table, console):
        console.width = PIPE
    console.print(table, soft_wrap=True)
    console.width = width


def _fits(table: Table, console: Console) -> bool:
    """Return whether a table fits the console with every word whole; see that it keeps them."""
    from rich.cells import cell_len
    from rich.measure import Measurement, measure_renderables

    whole = console.options.update(width=PIPE)
    for column in table.columns:
        words = measure_renderables(console, whole, [column.header, *column.cells])
        column.min_width = words.maximum if column.no_wrap else words.minimum
    least = Measurement.get(console, whole, table).minimum  # if there is less, columns vanish
    drawn = "".join(segment.text for segment in console.render(table))
    return max(least, *map(cell_len, drawn.splitlines())) <= console.width


def _records(table: Table) -> Table:
    """Return a table's rows one below the other, each cell that has text beside its heading."""
    from rich.text import Text

    records = plain_table("heading", "cell", whole=("heading",))
    records.show_header = False
    columns = [list(column.cells) for column in table.columns]
    for row, cells in enumerate(zip(*columns, strict=True)):
        if row:
            records.add_row("", "")
        for column, cell in zip(table.columns, cells, strict=True):
            if str(cell):
                records.add_row(Text(str(column.header), "dim"), cell)
    return records


def as_text(renderable: RenderableType, width: int = 160) -> str:
    """Return the text that a terminal would show, without colours."""
    from rarefy.flows.console.terminal import Console

    console = Console(width=width, color_system=None, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(renderable)
    lines = capture.get().rstrip().splitlines()
    return "\n".join(map(str.rstrip, lines))


def as_given(*left_out: str) -> str:
    """Return the command as it was given, to be given again, without the parameters named here."""
    context = click.get_current_context()
    words = ["rarefy", str(context.command.name)]
    skipped = {*left_out, *terminal.VOLUME}
    for parameter in context.command.params:
        name = str(parameter.name)
        value, source = context.params.get(name), context.get_parameter_source(name)
        if source is not ParameterSource.COMMANDLINE or name in skipped:
            continue
        each = value if isinstance(value, tuple) else (value,)
        told = [str(one.path if isinstance(one, home.Home) else one) for one in each]
        if isinstance(parameter, click.Argument):
            words += told
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            words.append(parameter.opts[0])
        else:
            words += [word for one in told for word in (parameter.opts[0], one)]
    return shlex.join(words)


class Shown:
    """What a notebook shows as a terminal does, in the same letters."""

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"
