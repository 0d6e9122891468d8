"""``rarefy predict``: answer texts with a bundle."""

from __future__ import annotations

import codecs
import io
import itertools
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from rarefy.flows.console import completion
from rarefy.flows.console.options import (
    home_option,
    json_option,
    provider_option,
    show_json,
    stderr,
)
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import DataError, RecipeError
from rarefy.pipeline.terms.wording import escaped_json

if TYPE_CHECKING:
    from rarefy.pipeline.release.predict import Bundle

Row = tuple[str, str | None]
FILE = click.Path(path_type=Path, dir_okay=False)
UNDECODED = re.compile("[\ud800-\udfff]")
"""What surrogateescape makes of bytes that are no text; decoded text has none of these."""
BYTE_ORDER_MARK = "\ufeff"
AT_ONCE = 1 << 16
"""Bytes of stdin that are answered together, if so many are there: what a pipe holds."""


@click.command(short_help="Predict labels, tags, scores or embeddings of texts.")
@click.argument("bundle", shell_complete=completion.runs_and_tags)
@click.argument("texts", metavar="[TEXT]…", nargs=-1)
@click.option(
    "--pair", "pairs", nargs=2, multiple=True, metavar="FIRST SECOND", help="A sentence pair."
)
@click.option(
    "--data", "table", type=FILE, help="Predict the rows of a CSV, TSV, JSONL or Parquet file."
)
@click.option(
    "--text",
    "columns",
    multiple=True,
    default=("text",),
    show_default=True,
    help="The text column of --data; repeat it for sentence pairs.",
)
@click.option(
    "--out", type=FILE, help="Write the rows of --data with predictions: a .csv or .jsonl file."
)
@click.option(
    "--adapter",
    metavar="FILE",
    help="Predict the task of this adapter: a file, or the bundle that has it.",
)
@provider_option
@click.option(
    "--threads", type=click.IntRange(1), help="Intra-op threads; default: the bundle's setting."
)
@home_option
@json_option
def predict(
    bundle: str,
    texts: tuple[str, ...],
    pairs: tuple[tuple[str, str], ...],
    table: Path | None,
    columns: tuple[str, ...],
    out: Path | None,
    adapter: str | None,
    provider: str | None,
    threads: int | None,
    home: Home,
    as_json: bool,
) -> None:
    """Predict each TEXT, or each line of stdin, with BUNDLE: a run, a folder, a tag or a digest.

    For pair models, separate the two texts with a tab. Blank lines are skipped. At a line that
    cannot be decoded, the exit code is 2, after the predictions for the lines before it. --json
    prints one object per line.

    With --data, the rows of a file are predicted, and written to --out with the columns
    `prediction` and `score`.

    Examples: `rarefy predict demo "A fine film."`,
    `rarefy predict demo --data rows.csv --text review --out predicted.csv`
    """
    _check_file(bundle, texts, pairs, table, out)
    if table is not None and out is not None:
        model = _opened(bundle, home, adapter, provider, threads)
        _predict_file(model, table, columns, out, as_json)
        return
    if not texts and not pairs and (sys.stdin is None or sys.stdin.isatty()):  # None: it is closed
        raise click.UsageError("give a TEXT or --pair FIRST SECOND, or pipe lines to stdin")
    model = _opened(bundle, home, adapter, provider, threads)
    if not texts and not pairs:
        for rows in arriving_rows(model.reads_pairs):
            _predict(model, rows, as_json)
        return
    single_texts: list[Row] = [(text, None) for text in texts]
    _predict(model, [*single_texts, *pairs], as_json)


def _opened(
    bundle: str, home: Home, adapter: str | None, provider: str | None, threads: int | None
) -> Bundle:
    """Return the bundle that answers.

    Args:
        bundle: The command's argument.
        home: Where names are looked up.
        adapter: The value of --adapter.
        provider: The value of --provider.
        threads: The value of --threads.
    """
    from rarefy.pipeline.release.predict import Bundle

    model = Bundle(bundle, home=home.path, provider=provider, threads=threads)
    if adapter:
        model = model.with_adapter(adapter)
    return model


def _check_file(
    bundle: str,
    texts: tuple[str, ...],
    pairs: tuple[tuple[str, str], ...],
    table: Path | None,
    out: Path | None,
) -> None:
    """Raise RecipeError or UsageError if it is unclear which rows are to be predicted.

    Args:
        bundle: The command's argument.
        texts: The texts; one that is a file's name is a mistake.
        pairs: The pairs of texts.
        table: The file of --data.
        out: The file of --out.
    """
    if (table is None) != (out is None):
        raise click.UsageError(
            "--data and --out must be given together: the rows, and the file to write"
        )
    if table is not None and (texts or pairs):
        raise click.UsageError("give either --data or texts")
    if len(texts) == 1 and os.path.isfile(texts[0]):  # noqa: PTH113 (raises nothing for long texts)
        command = f"rarefy predict {bundle} --data {texts[0]} --text COLUMN --out predicted.csv"
        raise RecipeError(f"{texts[0]} is a file; its rows are predicted by: {command}")


def _predict_file(
    model: Bundle, table: Path, columns: tuple[str, ...], out: Path, as_json: bool
) -> None:
    """Write the predictions for a file's rows to ``out``, and print its name."""
    from rarefy.flows.console.display import Display
    from rarefy.flows.console.prediction_file import predict_file
    from rarefy.pipeline.terms.wording import plural

    with Display(stderr()) as display:
        display.started("predict")
        blank = predict_file(model, table, columns, out, display.progress)
    if blank:
        click.echo(f"note: {plural(blank, 'row')} without text: no prediction", err=True)
    if as_json:
        show_json({"out": str(out), "without_text": blank})
    else:
        click.echo(str(out))


def _predict(model: Bundle, rows: list[Row], as_json: bool) -> None:
    """Print the predictions for rows in their order; each run of texts, or of pairs, is a batch."""
    for paired, group in itertools.groupby(rows, _is_pair):
        firsts, seconds = zip(*group, strict=True)
        batch_size = None
        if len(firsts) == 1:
            batch_size = 1  # the graph is not asked if rows interact
        predictions = model.predict(firsts, seconds if paired else None, batch_size=batch_size)
        for first, second, prediction in zip(firsts, seconds, predictions, strict=True):
            _show(first, second, prediction, as_json)


def _is_pair(row: Row) -> bool:
    return row[1] is not None


def arriving_rows(paired: bool) -> Iterator[list[Row]]:
    """Yield the rows of stdin's lines without blank ones: those together that arrive together.

    So a file is answered in batches, and a program that waits for the answer to its line gets it.

    Args:
        paired: Whether a tab divides a line into two texts.

    Raises:
        DataError: A line cannot be decoded; the rows before it have been yielded.
    """
    count = 0
    for lines in _arriving_lines():
        decoded = list(itertools.takewhile(_is_decoded, lines))
        rows = [_row(line, paired) for line in decoded if line.strip()]
        if rows:
            yield rows
        count += len(decoded)
        if len(decoded) < len(lines):
            encoding = sys.stdin.encoding.upper()
            raise DataError(f"line {count + 1} of stdin is not valid {encoding}")


def _is_decoded(line: str) -> bool:
    return UNDECODED.search(line) is None


def _arriving_lines() -> Iterator[list[str]]:
    """Yield the lines of stdin, those together that arrive together.

    Bytes that cannot be decoded are escaped, because to be strict would lose the lines before them.

    Raises DataError if they cannot be escaped either, as in UTF-16.
    """
    errors = sys.stdin.errors or "strict"
    if errors == "strict":
        errors = "surrogateescape"
    decode = codecs.getincrementaldecoder(sys.stdin.encoding)(errors)
    decoder = io.IncrementalNewlineDecoder(decode, translate=True)
    rest = ""
    first, ended = True, False
    while not ended:
        data: bytes = sys.stdin.buffer.read1(AT_ONCE)  # type: ignore[union-attr]
        ended = not data
        try:
            rest += decoder.decode(data, final=ended)
        except UnicodeDecodeError as error:
            raise DataError(f"stdin is not valid {error.encoding.upper()}") from error
        *lines, rest = rest.split("\n")
        if ended:
            lines.append(rest)
        if lines and first:
            lines[0] = lines[0].removeprefix(BYTE_ORDER_MARK)
            first = False
        yield lines


def _row(line: str, paired: bool) -> Row:
    """Return the text of a line, or its two texts if rows are pairs and it has a tab."""
    if not paired:
        return line, None
    first, tab, second = line.partition("\t")
    return first, second if tab else None


def _show(first: str, second: str | None, prediction: Any, as_json: bool) -> None:
    """Print a prediction for a text, or for a pair of texts, as a line."""
    if as_json:
        row = {"text": first, "pair": second, **prediction._asdict()}
        click.echo(escaped_json(json.dumps(row, ensure_ascii=False)))
        return
    cells = [*prediction.columns(), first]
    if second is not None:
        cells.append(second)
    click.echo("\t".join(cells))
