"""``rarefy history``: the verdicts so far, and how their numbers changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from rarefy.flows.console.options import (
    home_option,
    json_option,
    plain_table,
    show_json,
    show_table,
)
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
    "--limit",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Number of verdicts to list.",
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
    machine, and their confidence intervals do not overlap. Candidate 7 is the seventh bundle that
    was judged on the same eval rows. The distance of its main score from the best release, and from
    the tag `anchor`, is in percentage points, without an interval.

    Examples: `rarefy history demo`, `rarefy history --html trend.html`
    """
    from rarefy.pipeline.terms.errors import RecipeError
    from rarefy.pipeline.verdict import candidates
    from rarefy.pipeline.verdict.history import FILE, History

    past = History(home.path / FILE)
    recipes = past.recipes()
    if not recipes:
        if page is not None:
            raise RecipeError(f"{page} was not written: {NOTHING}")
        if as_json:
            show_json([])
        else:
            click.echo(NOTHING)
        return
    name = _name(recipe, recipes)
    if page is not None and metrics:
        raise click.UsageError(
            "--metric applies to the table and --json; the page shows all metrics"
        )
    if page is not None:
        _write(past, name, home, page)
        if as_json:
            show_json({"page": str(page)})
        else:
            click.echo(str(page))
        return
    every = past.verdicts()
    numbers = candidates.ordinals(every)
    columns = _distances(every, home)
    verdicts = [verdict for verdict in every if name in (None, verdict.recipe)]
    if as_json:
        latest = verdicts[-limit:]
        _keys(latest, metrics)  # raises for unknown ones
        rows = [_as_json(verdict, metrics) for verdict in reversed(latest)]
        for row, verdict in zip(rows, reversed(latest), strict=True):
            row["candidate"] = numbers.get(verdict.id)
            row |= {title: distances.get(verdict.id) for title, distances in columns.items()}
        show_json(rows)
        return
    show_table(_table(verdicts, limit, metrics, numbers, columns, named=name is None))


def _name(reference: str | None, names: list[str]) -> str | None:
    """Return the name of a recipe that is given by name or file; None for all recipes.

    Raises RecipeError if it is not among ``names``, the recipes with a verdict.
    """
    from rarefy.pipeline.recipe.recipe import load
    from rarefy.pipeline.terms.errors import RecipeError

    if reference is None or reference in names:
        return reference
    name = reference
    if Path(reference).is_file():
        name = load(Path(reference)).recipe.name
    if name not in names:
        raise RecipeError(f"{name}: no recipe of this name has a verdict; known: {_first(names)}")
    return name


def _first(names: list[str]) -> str:
    """Return the first eight of some names, and how many more there are."""
    text = ", ".join(names[:8])
    more = len(names) - 8
    if more > 0:
        text += f" and {more} more"
    return text


def _write(past: History, name: str | None, home: Home, page: Path) -> None:
    from rarefy.pipeline.report import trend
    from rarefy.pipeline.run import folder

    folder.check_page(page)
    text = trend.render(past, name, _releases(home))
    folder.write_page(page, text)


def _releases(home: Home) -> list[Release]:
    """Return every promotion to the store's tags; one moved by hand has no verdict."""
    from datetime import UTC, datetime

    from rarefy.pipeline.report.trend import Release

    if not (home.path / "store").is_dir():
        return []
    tags = home.store().all_tags()
    releases = []
    for name, tag in tags.items():
        for move in tag.moves:
            if move.why == "promote":
                when = datetime.fromtimestamp(move.time, UTC).isoformat()
                releases.append(Release(name, move.digest, when))
    return releases


def _distances(verdicts: list[Past], home: Home) -> dict[str, dict[int, float]]:
    """Return how far each verdict's main score is from the best release's and the anchor's.

    By the column's title, then by the verdict's id.
    """
    from rarefy.pipeline.report import distance
    from rarefy.pipeline.terms.recipe_parts import ANCHOR

    released = {release.digest for release in _releases(home)}
    anchor = home.store().find_tag(ANCHOR) if released else None
    bundles = {"vs_best_release": released, "vs_anchor": {anchor.digest} if anchor else set()}
    return {title: distance.to_best(verdicts, those) for title, those in bundles.items()}


def _as_json(past: Past, metrics: tuple[str, ...]) -> dict[str, Any]:
    machine = past.machine
    numbers = past.plain
    if metrics:
        numbers = [number for number in numbers if number.metric in metrics]
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
        "numbers": [number._asdict() for number in numbers],
        "budgets": [budget.model_dump() for budget in past.budgets],
    }


def _table(
    verdicts: list[Past],
    limit: int,
    metrics: tuple[str, ...],
    numbers: dict[int, int],
    distances: dict[str, dict[int, float]],
    *,
    named: bool,
) -> Table:
    """Return verdicts as a table. Raises RecipeError for unknown metrics.

    Args:
        verdicts: the oldest first.
        limit: how many of them are listed.
        metrics: the columns; empty for the usual ones.
        numbers: which candidate on its eval rows each verdict was about, by its id.
        distances: title -> of each verdict's main score, by its id; one without any is left out.
        named: whether there is a column with the recipe.
    """
    from rich.text import Text

    from rarefy.flows.console.display import COLOUR
    from rarefy.pipeline.report import distance, series
    from rarefy.pipeline.terms.outcomes import SYMBOL
    from rarefy.pipeline.verdict.history_numbers import readings

    keys = _keys(verdicts[-limit:], metrics)
    titles = ["time (UTC)", "bundle", "candidate", "verdict"]
    if named:
        titles.insert(1, "recipe")
    shown = {past.id for past in verdicts[-limit:]}
    distances = {title: of for title, of in distances.items() if shown.intersection(of)}
    titles += [title.replace("_", " ") for title in distances]
    table = plain_table(*titles, whole=titles)
    for key in keys:
        place = f" on {key.target}" if key.target else ""
        table.add_column(f"{series.title(key)}{place}")
    followed: dict[tuple[str, Key], Followed] = {}
    rows = []
    for past in verdicts:
        outcome = past.standing
        cells = [Text(past.time[:16].replace("T", " "))]
        if named:
            cells.append(Text(past.recipe))
        cells.append(Text((past.bundle or "–")[:12]))
        cells.append(Text(str(numbers.get(past.id, "–"))))
        cells.append(Text(f"{SYMBOL[outcome]} {outcome}", COLOUR[outcome]))
        for of in distances.values():
            text = distance.shown(past, of[past.id]) if past.id in of else "–"
            cells.append(Text(text))
        values = readings(past)
        for key in keys:
            if key not in values:
                cells.append(Text("–", "dim"))
                continue
            series_so_far = followed.setdefault((past.recipe, key), [])
            series_so_far.append((past, values[key]))
            cells.append(_cell(key, series_so_far))
        rows.append(cells)
    for cells in reversed(rows[-limit:]):
        table.add_row(*cells)
    return table


def _keys(verdicts: list[Past], metrics: tuple[str, ...]) -> list[Key]:
    """Return the columns: all numbers of ``metrics``, or by default the usual metrics' values.

    Raises RecipeError for a metric that no verdict has.
    """
    from rarefy.pipeline.terms.errors import RecipeError
    from rarefy.pipeline.verdict.history_numbers import readings

    keys: dict[Key, None] = {}
    for past in reversed(verdicts):
        keys |= dict.fromkeys(readings(past))
    names = sorted({key.metric for key in keys})
    for metric in metrics:
        if metric not in names:
            raise RecipeError(
                f"--metric {metric}: no verdict has it; known: {', '.join(names) or 'none'}"
            )
    if not metrics:
        usual = set(USUAL)
        for past in verdicts:
            usual |= {number.metric for number in past.plain}
        return [key for key in keys if key.form is None and key.metric in usual]
    columns: list[Key] = []
    for metric in metrics:
        columns += [key for key in keys if key.metric == metric]
    return columns


def _cell(key: Key, followed: Followed) -> Text:
    from rich.text import Text

    from rarefy.pipeline.report import series

    reading = followed[-1][1]
    if reading.value is None:
        return Text("no number", "dim")
    text = Text(series.shown(key, reading.value))
    bounds = series.interval(key, reading)
    if bounds:
        text.append(f" [{bounds}]", "dim")
    change = series.change(key, followed)
    if change:
        text.append(f" {change.text}", "green" if change.better else "red")
    return text
