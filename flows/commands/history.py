"""``rarefy history``: the verdicts so far, and how their numbers changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from rarefy.flows.console.options import home_option, json_option, show_json, show_table
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.metrics import USUAL

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from rarefy.pipeline.report.series import Followed
    from rarefy.pipeline.report.trend import Release
    from rarefy.pipeline.verdict.history import History
    from rarefy.pipeline.verdict.history_numbers import Key, Past

NOTHING = "no verdict yet: `rarefy run RECIPE` and `rarefy validate` add one when they end"


@click.command(short_help="List the verdicts so far, or write a page of trends.")
@click.argument("recipe", metavar="[RECIPE]", required=False)
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="Verdicts to list."
)
@click.option("--metric", "metrics", multiple=True, help="The metric to list; may be repeated.")
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the page of trends to this file.",
)
@home_option
@json_option
def history(
    recipe: str | None,
    limit: int,
    metrics: tuple[str, ...],
    page: Path | None,
    home: Home,
    as_json: bool,
) -> None:
    """List the verdicts on RECIPE (a name or a file; default: all recipes), latest first.

    An arrow marks a number that changed since the previous verdict: both were measured on the same
    machine, and their confidence intervals do not overlap.

    Examples: `rarefy history demo`, `rarefy history --html trend.html`
    """
    from rarefy.pipeline.terms.errors import RecipeError
    from rarefy.pipeline.verdict.history import FILE, History

    past = History(home.path / FILE)
    known = past.recipes()
    if not known and page is not None:
        raise RecipeError(f"{page} was not written: {NOTHING}")
    if not known:
        show_json([]) if as_json else click.echo(NOTHING)
        return
    name = _name(recipe, known)
    if page is not None and metrics:
        raise click.UsageError("--metric is of the table and of --json; the page has all metrics")
    if page is not None:
        _write(past, name, home, page)
        show_json({"page": str(page)}) if as_json else click.echo(str(page))
        return
    verdicts = past.verdicts(name)
    if as_json:
        shown = verdicts[-limit:]
        _keys(shown, metrics)  # raises for unknown ones
        show_json([_plain(verdict, metrics) for verdict in reversed(shown)])
        return
    show_table(_table(verdicts, limit, metrics, named=name is None))


def _name(reference: str | None, known: list[str]) -> str | None:
    """Return the name of the recipe. Raises RecipeError if it has no verdict."""
    from rarefy.pipeline.recipe import recipe as recipes
    from rarefy.pipeline.terms.errors import RecipeError

    if reference is None or reference in known:
        return reference
    name = recipes.load(Path(reference)).recipe.name if Path(reference).is_file() else reference
    if name not in known:
        raise RecipeError(f"{name}: no recipe of this name has a verdict; known: {_list(known)}")
    return name


def _list(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _write(past: History, name: str | None, home: Home, page: Path) -> None:
    from rarefy.pipeline.report import trend
    from rarefy.pipeline.run import folder
    from rarefy.pipeline.terms.errors import ProviderError

    folder.check_page(page)
    text = trend.render(past, name, _releases(home))
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ProviderError(f"{page}: cannot write it: {error.strerror}") from None


def _releases(home: Home) -> list[Release]:
    """Return every promotion to the store's tags; one moved by hand has no verdict."""
    from datetime import UTC, datetime

    from rarefy.pipeline.report.trend import Release

    if not (home.path / "store").is_dir():
        return []
    tags = home.store().all_tags()
    return [
        Release(name, move.digest, datetime.fromtimestamp(move.time, UTC).isoformat())
        for name, tag in tags.items()
        for move in tag.moves
        if move.why == "promote"
    ]


def _plain(past: Past, metrics: tuple[str, ...]) -> dict[str, Any]:
    machine = past.machine
    return {
        "time": past.time,
        "measured_at": past.measured,
        "recipe": past.recipe,
        "command": past.command,
        "bundle": past.bundle,
        "outcome": past.outcome,
        "evidence": past.evidence,
        "commit": past.commit,
        "judged_again": past.again,
        "machine": {
            "digest": machine.digest,
            "cpu": machine.cpu,
            "cores": machine.cores,
            "onnxruntime": machine.runtime,
        },
        "baselines": past.baselines,
        "numbers": [one._asdict() for one in past.plain if not metrics or one.metric in metrics],
        "budgets": [budget.model_dump() for budget in past.budgets],
    }


def _table(verdicts: list[Past], limit: int, metrics: tuple[str, ...], *, named: bool) -> Table:
    """Return the latest ``limit`` verdicts as a table. Raises RecipeError for unknown metrics."""
    from rich.table import Table
    from rich.text import Text

    from rarefy.flows.console.display import COLOUR
    from rarefy.pipeline.report import series
    from rarefy.pipeline.terms.outcomes import SYMBOL
    from rarefy.pipeline.verdict.history_numbers import readings

    shown = verdicts[-limit:]
    keys = _keys(shown, metrics)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("time (UTC)", *(("recipe",) if named else ()), "bundle", "verdict"):
        table.add_column(title, no_wrap=True)
    for key in keys:
        place = f" on {key.target}" if key.target else ""
        table.add_column(f"{series.title(key)}{place}")
    followed: dict[tuple[str, Key], Followed] = {}
    rows = []
    for past in verdicts:
        sign, colour = SYMBOL[past.standing], COLOUR[past.standing]
        cells = [Text(past.time[:16].replace("T", " "))]
        cells += [Text(past.recipe)] if named else []
        cells += [Text((past.bundle or "–")[:12]), Text(f"{sign} {past.standing}", colour)]
        numbers = readings(past)
        for key in keys:
            line = followed.setdefault((past.recipe, key), [])
            line += [(past, numbers[key])] if key in numbers else []
            cells.append(_cell(key, line) if key in numbers else Text("–", "dim"))
        rows.append(cells)
    for cells in reversed(rows[-limit:]):
        table.add_row(*cells)
    return table


def _keys(shown: list[Past], metrics: tuple[str, ...]) -> list[Key]:
    """Return the columns: all numbers of ``metrics``, or by default the usual metrics' values.

    Raises RecipeError for a metric that no verdict has.
    """
    from rarefy.pipeline.terms.errors import RecipeError
    from rarefy.pipeline.verdict.history_numbers import readings

    there = list(dict.fromkeys(key for past in reversed(shown) for key in readings(past)))
    names = sorted({key.metric for key in there})
    for metric in metrics:
        if metric not in names:
            raise RecipeError(
                f"--metric {metric}: no verdict has it; known: {', '.join(names) or 'none'}"
            )
    if not metrics:
        usual = {*USUAL, *(one.metric for past in shown for one in past.plain)}
        return [key for key in there if key.form is None and key.metric in usual]
    return [key for metric in metrics for key in there if key.metric == metric]


def _cell(key: Key, followed: Followed) -> Text:
    from rich.text import Text

    from rarefy.pipeline.report import series

    reading = followed[-1][1]
    if reading.value is None:
        return Text("no number", "dim")
    text = Text(series.shown(key, reading.value))
    if bounds := series.interval(key, reading):
        text.append(f" [{bounds}]", "dim")
    if change := series.change(key, followed):
        text.append(f" {change.text}", "green" if change.better else "red")
    return text
