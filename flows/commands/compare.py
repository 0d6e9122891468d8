"""``rarefy compare``: two bundles on the same rows, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from flows.options import Home, home_option, json_option, show_json, stderr, stdout

if TYPE_CHECKING:
    from flows.bundles import Bundle
    from pipeline.data import Split
    from pipeline.recipe import Data


@click.command(short_help="Two bundles side by side: accuracy, agreement, latency, size.")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--recipe",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Whose eval split; default: that of A's run.",
)
@click.option(
    "--data", "table", type=click.Path(path_type=Path, dir_okay=False), help="A labelled file."
)
@click.option("--text", multiple=True, default=("text",), help="Its text column; twice for pairs.")
@click.option("--label", default="label", show_default=True, help="Its label column.")
@click.option("--provider", type=click.Choice(["cpu", "cuda", "tensorrt"]), default="cpu")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--seconds", type=click.FloatRange(1), default=30.0, show_default=True)
@click.option("--rows", type=click.IntRange(1), default=200, help="Rows that are timed.")
@home_option
@json_option
def compare(
    first: str,
    second: str,
    recipe: Path | None,
    table: Path | None,
    text: tuple[str, ...],
    label: str,
    provider: Any,
    threads: int,
    seconds: float,
    rows: int,
    home: Home,
    as_json: bool,
) -> None:
    """Compare B with A: each a folder, a run, a tag or a digest of a bundle.

    Latencies are taken row by row next to each other; a difference is worth a word only where
    its interval leaves zero out (a ratio's: one).

    Example: `rarefy compare production demo --data eval.jsonl`
    """
    from flows import comparison
    from flows.bundles import find
    from flows.display import Display
    from pipeline.recipe import Target

    a, b = find(first, home), find(second, home)
    split = labelled_rows(a, b, _data(table, text, label), recipe, home)
    target = Target(provider=provider, threads=threads)
    effort = comparison.Effort(rows=rows, processes=3, seconds=seconds)
    with Display(stderr(), 1, quiet=as_json) as display:
        display.started("compare")
        found = comparison.compare(a, b, split, target, effort, display.progress)
        for sentence in found["latency"]["busy"]:
            display.say(f"note: {sentence}", "yellow")
    if as_json:
        show_json(found)
        return
    _show(found)


def _data(table: Path | None, text: tuple[str, ...], label: str) -> Data | None:
    from pipeline.recipe import Data

    if table is None:
        return None
    path = str(table.resolve())
    return Data(train=path, eval=path, text=text[0] if len(text) == 1 else text, label=label)


def labelled_rows(
    a: Bundle, b: Bundle, table: Data | None, recipe: Path | None, home: Home
) -> Split:
    """Return the rows to compare on: those of the file, else the recipe's eval split.

    Raises ModelError where the two bundles, or the rows, have other labels.
    """
    import json

    from flows.remeasure import check_labels, recipe_of
    from pipeline import data
    from pipeline import recipe as recipes

    if table is not None:
        base = Path()
    else:
        loaded = recipes.load(recipe_of(a.name, recipe, home))
        table, base = loaded.recipe.data, loaded.base
    named = json.loads((a.directory / "config.json").read_text())["id2label"]
    labels = [named[key] for key in sorted(named, key=int)]
    check_labels(b, labels)
    return data.load(table, data.locate(table, base), labels)[0]["eval"]


def _show(found: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    models, scores, times = found["models"], found["accuracy"], found["latency"]
    for column in ("", "A", "B", "B against A"):
        table.add_column(column)
    table.add_row("", models["A"]["name"], models["B"]["name"], "")
    change = _interval(scores["difference"], "{:+.1%}")
    table.add_row(
        "accuracy",
        _interval(scores["A"], "{:.1%}"),
        _interval(scores["B"], "{:.1%}"),
        f"{change}, McNemar p = {scores['mcnemar_p']:.3g}",
    )
    flips = f"{scores['flips']} of {found['rows']} rows differ: {scores['gains']} better"
    same = _interval(scores["agreement"], "{:.1%}")
    table.add_row("agreement", "", same, f"{flips}, {scores['losses']} worse")
    table.add_row(
        f"latency p50 ({times['provider']}, {times['threads']} thread)",
        _interval(times["A_p50"], "{:.2f}") + " ms",
        _interval(times["B_p50"], "{:.2f}") + " ms",
        _interval(times["speedup"], "{:.2f}") + "× as fast",
    )
    sizes = [models[side]["size"] for side in "AB"]
    shown = [f"{size / 1e6:.1f} MB" for size in sizes]
    table.add_row("size", *shown, f"{sizes[0] / sizes[1]:.2f}× smaller")
    counts = [models[side]["parameters"] for side in "AB"]
    if all(counts):
        shown = [f"{count / 1e6:.2f} M" for count in counts]
        table.add_row("parameters", *shown, f"{counts[0] / counts[1]:.2f}× fewer")
    stdout().print(table)


def _interval(found: dict[str, float], form: str) -> str:
    value, low, high = (form.format(found[key]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
