"""``rarefy compare``: compare a candidate with a baseline on the same rows, as a gate if asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from rarefy.flows.console import completion
from rarefy.flows.console.options import (
    home_option,
    json_option,
    rows_of,
    rows_options,
    show_json,
    show_table,
    stderr,
)
from rarefy.pipeline.store.home import Home

if TYPE_CHECKING:
    from rarefy.pipeline.measure.measurements import Latency
    from rarefy.pipeline.measure.rows_per_second import Throughput
    from rarefy.pipeline.terms.budget import Budget


def _share(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Parse a share such as 5%. Raises BadParameter unless it is between 0 and 1."""
    from rarefy.pipeline.terms.recipe_parts import parse_quantity

    if value is None:
        return None
    try:
        share = float(parse_quantity(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if not 0 < share < 1:
        raise click.BadParameter(f"{value!r} is not a share between 0 and 1, such as 5%")
    return share


@click.command(short_help="Compare two bundles: accuracy, agreement, latency, size.")
@click.argument("candidate", shell_complete=completion.runs_and_tags)
@click.argument("baseline", shell_complete=completion.runs_and_tags)
@click.option(
    "--max-regression",
    "limit",
    metavar="SHARE",
    callback=_share,
    help="Exit 3 if accuracy, latency or size is worse by more than this, e.g. 5%.",
)
@click.option("--strict", is_flag=True, help="Exit 4 if --max-regression is inconclusive.")
@rows_options
@click.option(
    "--label",
    default="label",
    show_default=True,
    help="The label column of --data; `none`: the baseline's own predictions.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Intra-op threads of each model.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1),
    default=60.0,
    show_default=True,
    help="Stop timing after this long.",
)
@click.option(
    "--rows", type=click.IntRange(1), default=200, show_default=True, help="Rows to time."
)
@click.option(
    "--throughput",
    is_flag=True,
    help="Also compare rows per second, with a worker for each core; takes up to --seconds more.",
)
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the comparison to this file, as a page.",
)
@home_option
@json_option
def compare(
    candidate: str,
    baseline: str,
    limit: float | None,
    strict: bool,
    recipe: Path | None,
    table: Path | None,
    text: tuple[str, ...],
    label: str,
    provider: str | None,
    threads: int,
    seconds: float,
    rows: int,
    throughput: bool,
    page: Path | None,
    home: Home,
    as_json: bool,
) -> int:
    """Compare CANDIDATE with BASELINE: each is a run, a folder, a tag, a digest or a URL#tag.

    Both models predict the same rows. They are timed in short alternating blocks of calls, until
    the test decides whether the latency changed by --max-regression (default: 5%), or until
    --seconds have passed. With --max-regression, the recipe's budgets on labels and slices are
    judged as well, against BASELINE. Other scores that its budgets name are compared too.

    Examples: `rarefy compare demo production --max-regression 5%`,
    `rarefy compare demo other --html side-by-side.html`
    """
    from rarefy.flows.console.compared import ComparisonView
    from rarefy.flows.console.display import Display, show_verdict
    from rarefy.pipeline.model.runtime import bundle_files
    from rarefy.pipeline.release import compare as comparing
    from rarefy.pipeline.release.bundles import find
    from rarefy.pipeline.release.origin import recipe_of
    from rarefy.pipeline.run import folder
    from rarefy.pipeline.terms.recipe_parts import Target

    if page is not None:
        folder.check_page(page)

    bundle = find(candidate, home)
    execution_provider: Any = bundle_files.chosen_provider(bundle.directory, provider)
    target = Target(provider=execution_provider, threads=threads)
    if table is not None:
        source, base = rows_of(table, text, label), Path()
        budgets: tuple[Budget, ...] = ()
    else:
        loaded = recipe_of(candidate, recipe, home)
        source, base, budgets = loaded.recipe.data, loaded.base, loaded.recipe.budgets
    notes: list[str] = []
    with Display(stderr(), quiet=as_json) as display:
        display.started("compare")
        task, split = comparing.read_rows(bundle, source, base, notes)
        comparison = comparing.compare(
            bundle,
            baseline,
            task,
            split,
            home,
            target=target,
            effort=comparing.Effort(rows, processes=5, seconds=seconds, throughput=throughput),
            margin=limit or comparing.MARGIN,
            budgets=budgets,
            progress=display.progress,
        )
        for times in comparison.measurements.throughput.values():
            notes += _notes(times)
        notes += _notes(comparison.latency)
        for note in notes:
            display.say(f"note: {note}", "yellow")
    verdict, code = None, 0
    if limit is not None:
        verdict = comparing.judge(comparison, limit, target, budgets)
        code = verdict.exit_code(strict)
    view = ComparisonView(comparison, verdict)
    if page is not None:
        folder.write_page(page, view.page(notes))
    if as_json:
        values = verdict.model_dump(mode="json", by_alias=True) if verdict else None
        show_json(comparison.as_json() | {"verdict": values, "exit_code": code})
        return code
    show_table(view.table())
    if verdict is not None:
        show_verdict(verdict, stderr())
        click.echo(f"verdict: {verdict.outcome}")
    return code


def _notes(times: Latency | Throughput) -> list[str]:
    """Return what disturbed the timing."""
    notes = list(times.busy)
    if times.throttled:
        notes.append(f"{times.throttled}; these times cannot support a verdict")
    return notes
