"""``rarefy predict``: classify texts with a bundle."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import rich_click as click

from flows.options import home_option, json_option, provider_option
from pipeline.store.home import Home
from pipeline.terms.errors import DataError


@click.command(short_help="Classify texts with a bundle: label and probabilities.")
@click.argument("bundle")
@click.argument("texts", metavar="[TEXT]…", nargs=-1)
@click.option(
    "--pair", "pairs", nargs=2, multiple=True, metavar="FIRST SECOND", help="A sentence pair."
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
    provider: str | None,
    threads: int | None,
    home: Home,
    as_json: bool,
) -> None:
    """Classify each TEXT, or each line of stdin, with BUNDLE: a folder, a run, a tag or a digest.

    A line of stdin that contains a tab is a sentence pair. --json prints one object per line.

    Example: `rarefy predict demo "A fine film."`
    """
    from pipeline.model import own_provider
    from pipeline.model.runtime import BundleModel
    from pipeline.release.bundles import find
    from pipeline.stage import tasks

    answering = find(bundle, home)
    if not texts and not pairs and sys.stdin.isatty():
        raise click.UsageError("give a TEXT or --pair FIRST SECOND, or pipe lines to stdin")
    provider = own_provider.chosen(answering.directory, provider)
    model = BundleModel(answering.directory, provider=provider, threads=threads)
    task = tasks.find(model.task)(model.labels, model.signature["max_length"], ())
    task = task.of_model(model.config)
    rows: Iterable[tuple[str, str | None]] = [*((text, None) for text in texts), *pairs]
    for text, second in map(_checked, rows or _lines()):
        pair = [second] if second is not None else None
        (given,) = task.reply([text], task.answers(model.units([task.ask(text)], pair)))
        _answer(text, second, given, as_json)


def _lines() -> Iterator[tuple[str, str | None]]:
    """Yield the texts from stdin as they arrive, skipping blank lines.

    Raises DataError if stdin cannot be decoded.
    """
    try:
        for line in sys.stdin:
            first, tab, second = line.rstrip("\n").partition("\t")
            if first.strip():
                yield first, second if tab else None
    except UnicodeDecodeError as error:
        raise DataError(f"stdin is not valid {error.encoding.upper()}") from error


def _checked(row: tuple[str, str | None]) -> tuple[str, str | None]:
    """Return a row. Raises DataError for bytes that were not UTF-8: no tokenizer takes them."""
    for text in row:
        try:
            (text or "").encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{text!r:.60} is not valid Unicode; write it in UTF-8") from error
    return row


def _answer(text: str, second: str | None, given: Any, as_json: bool) -> None:
    if as_json:
        answer = {"text": text, "pair": second} | given._asdict()
        click.echo(json.dumps(answer, ensure_ascii=False))
        return
    click.echo("\t".join([*given.columns(), text, *([second] if second is not None else [])]))
