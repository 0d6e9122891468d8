"""``rarefy loadtest``: measure a bundle under load, with requests that arrive at a given rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from rarefy.flows.console import completion
from rarefy.flows.console.options import (
    home_option,
    json_option,
    plain_table,
    rows_of,
    rows_options,
    show_json,
    show_table,
    stderr,
)
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.metrics import PERCENTILES

if TYPE_CHECKING:
    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.measure.load.session import Load

COLUMNS = (
    *("sent/s", "answered/s", "workers busy", "p50 (ms)", "p90", "p95"),
    *("p99", "max", "service p50", "service p99"),
)
CODES = {"fail": 3, "inconclusive": 4}


def _milliseconds(_context: Any, _parameter: Any, value: str | None) -> float | None:
    """Parse a time such as ``20ms`` or ``0.5 s``; a plain number is in ms."""
    if value is None:
        return None
    from rarefy.pipeline.terms import recipe_parts

    try:
        limit = float(recipe_parts.parse_quantity(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if recipe_parts.quantity_kind(value) not in ("", "a time") or limit <= 0:
        raise click.BadParameter(f"{value!r} is not a time such as 20ms")
    return limit


@click.command(short_help="Measure a bundle's response times at given request rates.")
@click.argument("bundle", shell_complete=completion.runs_and_tags)
@click.option(
    "--rate",
    "rates",
    type=click.FloatRange(0, min_open=True),
    multiple=True,
    required=True,
    help="Requests per second; repeat the option to measure several rates.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Worker processes, each with its own session.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Intra-op threads of each worker.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    default=10.0,
    show_default=True,
    help="How long to send requests at each rate.",
)
@click.option(
    "--arrivals",
    "kind",
    type=click.Choice(["poisson", "constant"]),
    default="poisson",
    show_default=True,
    help="poisson: random, as from independent users; constant: evenly spaced.",
)
@click.option(
    "--max-p99",
    metavar="TIME",
    callback=_milliseconds,
    help="Exit 3 if the p99 exceeds this at any rate, 4 if that is inconclusive.",
)
@rows_options
@home_option
@json_option
def loadtest(
    bundle: str,
    rates: tuple[float, ...],
    max_p99: float | None,
    recipe: Path | None,
    table: Path | None,
    text: tuple[str, ...],
    provider: str | None,
    home: Home,
    as_json: bool,
    **options: Any,
) -> int:
    """Send requests to BUNDLE at each rate, in an open loop, and time the responses.

    A response time starts when the request was due and covers everything from text to
    probabilities. Workers are processes, each with its own session and cores; they share one
    queue. Requests that still wait ten seconds after the last was sent count as unanswered.

    Example: `rarefy loadtest production --rate 50 --rate 200 --workers 2 --max-p99 20ms`
    """
    from rarefy.flows.console.display import Display
    from rarefy.pipeline.measure import exclusive
    from rarefy.pipeline.measure.load import session as loading
    from rarefy.pipeline.model.runtime import bundle_files
    from rarefy.pipeline.release.bundles import check_bytes, find
    from rarefy.pipeline.terms.outcomes import worst
    from rarefy.pipeline.verdict import load as judging

    model = find(bundle, home)
    check_bytes(model)
    options["provider"] = bundle_files.chosen_provider(model.directory, provider)
    split = rows(bundle, table, text, recipe, home)
    runs = []
    with Display(stderr(), quiet=as_json) as display:
        for rate in rates:
            display.started("loadtest")
            with exclusive.measuring(display.waiting):
                run = loading.measure(
                    model.directory,
                    split.texts,
                    split.pairs,
                    rate=rate,
                    progress=display.progress,
                    **options,
                )
            runs.append(run)
            for note in _notes(run):
                display.say(f"note: at {rate:g} requests/s, {note}", "yellow")
    verdicts = []
    if max_p99 is not None:
        verdicts = [judging.judge(run, max_p99) for run in runs]
    code = CODES.get(worst(outcome for outcome, _ in verdicts) or "pass", 0)
    if as_json:
        runs_json = [_as_json(run) for run in runs]
        for run_json, (outcome, reason) in zip(runs_json, verdicts, strict=False):
            run_json["p99"] = {"limit_ms": max_p99, "outcome": outcome, "reason": reason}
        show_json(
            {"bundle": model.digest, "rows": len(split), "exit_code": code, "runs": runs_json}
        )
        return code
    _show(runs)
    for outcome, reason in verdicts:
        click.echo(f"{outcome}: {reason}")
    return code


def rows(
    bundle: str, table: Path | None, text: tuple[str, ...], recipe: Path | None, home: Home
) -> Split:
    """Return the rows to send: those of the file if given, else the recipe's eval split."""
    from rarefy.pipeline import tasks
    from rarefy.pipeline.release.bundles import find
    from rarefy.pipeline.release.origin import recipe_of
    from rarefy.pipeline.run.plan import baselines
    from rarefy.pipeline.tasks import load as data
    from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION

    if table is not None:
        source = rows_of(table, text)
        files = find(bundle, home)
        name, _ = baselines.answers_of(files.name, files.directory, TEXT_CLASSIFICATION)
        return data.read_text(source, tasks.find(name).reader, source.eval, Path())
    loaded = recipe_of(bundle, recipe, home)
    recipe_data, task = loaded.recipe.data, tasks.find(loaded.recipe.task)
    if task.reader.singly:  # as ``timed_requests``; a document's id beside a query may be a number
        recipe_data = recipe_data.model_copy(update={"text": recipe_data.text_columns[0]})
    reference = recipe_data.references.get("eval", recipe_data.train)
    return data.read_text(recipe_data, task.reader, reference, loaded.base)


def _notes(run: Load) -> list[str]:
    """Return what limits the validity of the numbers."""
    from rarefy.pipeline.terms.wording import plural

    notes = list(run.busy)
    if run.saturated:
        notes.insert(0, f"saturated: {run.saturated}; times grow with the length of the run")
    if run.unanswered:
        notes.insert(
            0,
            f"{run.unanswered:,} of {plural(len(run.sent), 'request')} were not answered; "
            "they count with their waiting time, so response times are lower bounds",
        )
    if run.broken:
        notes.insert(0, f"{run.broken} of {len(run.service)} predictions are NaN or infinite")
    if run.late > 0.01 and not run.saturated:
        notes.append(
            f"{run.late:.0%} of the responses came over 1 ms later than the queue can explain"
        )
    return notes


def _as_json(run: Load) -> dict[str, Any]:
    times = {}
    for name, of_service in (("response_ms", False), ("service_ms", True)):
        values = run.service if of_service else run.response
        times[name] = {"max": max(values)}
        for percent in PERCENTILES:
            interval = run.percentile(percent, of_service=of_service)
            times[name][f"p{percent}"] = interval._asdict() if interval else None
    return {
        "rate": run.rate,
        "offered": len(run.sent) / run.seconds,
        "achieved": run.achieved,
        "requests": len(run.sent),
        "unanswered": run.unanswered,
        "workers": run.workers,
        "threads": run.threads,
        "provider": run.provider,
        "seconds": run.seconds,
        **times,
        "utilisation": run.utilisation,
        "saturated": run.saturated,
        "late": run.late,
        "not_a_number": run.broken,
        "busy": run.busy,
    }


def _show(runs: list[Load]) -> None:
    from rarefy.pipeline.terms.wording import number

    table = plain_table(*COLUMNS, right=COLUMNS)
    for run in runs:
        cells = [_cell(run, percent) for percent in PERCENTILES]
        p99 = run.percentile(99)
        if p99:
            cells[-1] += f" [{number(p99.low)}, {number(p99.high)}]"
        table.add_row(
            number(len(run.sent) / run.seconds),
            number(run.achieved),
            f"{run.utilisation:.0%}",
            *cells,
            _at_least(run) + number(max(run.response)),
            _cell(run, 50, of_service=True),
            _cell(run, 99, of_service=True),
        )
    show_table(table)


def _cell(run: Load, percent: int, *, of_service: bool = False) -> str:
    """Return a percentile, or a dash if there are too few requests to estimate it."""
    from rarefy.pipeline.terms.wording import number

    interval = run.percentile(percent, of_service=of_service)
    if not interval:
        return "–"
    if of_service:
        return number(interval.value)
    return _at_least(run) + number(interval.value)


def _at_least(run: Load) -> str:
    """Return the sign before a response time that is a lower bound."""
    return "≥ " if run.unanswered else ""
