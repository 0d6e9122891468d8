"""``rarefy predict``: answer texts with a bundle."""

from __future__ import annotations

import codecs
import io
import itertools
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import rich_click as click

from rarefy.flows.console.options import home_option, json_option, provider_option
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import DataError

Row = tuple[str, str | None]
UNDECODED = re.compile("[\ud800-\udfff]")
"""What surrogateescape makes of bytes that are no text; decoded text has none of these."""
BYTE_ORDER_MARK = "\ufeff"
AT_ONCE = 1 << 16
"""Bytes of stdin that are answered together, if so many are there: what a pipe holds."""


@click.command(short_help="Answer texts with a bundle: labels, tags, scores or embeddings.")
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
    """Answer each TEXT, or each line of stdin, with BUNDLE: a run, a folder, a tag or a digest.

    If BUNDLE reads pairs, a line of stdin with a tab is one. Blank lines are left out. A line that
    cannot be decoded ends with 2, after the answers to the lines before it. --json prints one
    object per line.

    Example: `rarefy predict demo "A fine film."`
    """
    from rarefy.pipeline.release.predict import Bundle

    if not texts and not pairs and (sys.stdin is None or sys.stdin.isatty()):  # None: it is closed
        raise click.UsageError("give a TEXT or --pair FIRST SECOND, or pipe lines to stdin")
    model = Bundle(bundle, home=home.path, provider=provider, threads=threads)
    given: list[Row] = [*((text, None) for text in texts), *pairs]
    for rows in [given] if given else _arriving(model.reads_pairs):
        for paired, alike in itertools.groupby(rows, lambda row: row[1] is not None):
            firsts, seconds = zip(*alike, strict=True)
            alone = 1 if len(firsts) == 1 else None  # the graph is not asked if rows interact
            answers = model.predict(firsts, seconds if paired else None, batch_size=alone)
            for text, second, answer in zip(firsts, seconds, answers, strict=True):
                _answer(text, second, answer, as_json)


def _arriving(paired: bool) -> Iterator[list[Row]]:
    """Yield the rows of stdin's lines without blank ones: those together that arrive together.

    ``paired``: whether a tab divides a line.

    So a file is answered in batches, and a program that waits for the answer to its line gets it.
    Raises DataError at the first line that cannot be decoded, after the rows before it.
    """
    encoding, errors = sys.stdin.encoding, sys.stdin.errors or "strict"
    errors = "surrogateescape" if errors == "strict" else errors  # strict loses the lines before
    decode = codecs.getincrementaldecoder(encoding)(errors)
    decoder, rest, ended = io.IncrementalNewlineDecoder(decode, translate=True), "", False
    count, begun = 0, False
    while not ended:
        read: bytes = sys.stdin.buffer.read1(AT_ONCE)  # type: ignore[union-attr]
        ended = not read
        try:
            *lines, rest = (rest + decoder.decode(read, final=ended)).split("\n")
        except UnicodeDecodeError as error:  # UTF-16 has bytes that cannot be escaped
            raise DataError(f"stdin is not valid {error.encoding.upper()}") from error
        lines += [rest] if ended else []
        if lines and not begun:
            lines[0], begun = lines[0].removeprefix(BYTE_ORDER_MARK), True
        good = list(itertools.takewhile(lambda line: not UNDECODED.search(line), lines))
        parts = [line.partition("\t") if paired else (line, "", "") for line in good]
        if rows := [
            (first, second if tab else None)
            for first, tab, second in parts
            if (first + second).strip()
        ]:
            yield rows
        count += len(good)
        if len(good) < len(lines):
            raise DataError(f"line {count + 1} of stdin is not valid {encoding.upper()}")


def _answer(text: str, second: str | None, given: Any, as_json: bool) -> None:
    if as_json:
        answer = {"text": text, "pair": second} | given._asdict()
        click.echo(json.dumps(answer, ensure_ascii=False))
        return
    click.echo("\t".join([*given.columns(), text, *([second] if second is not None else [])]))
