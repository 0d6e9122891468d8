"""The throughput of a run in words: rows a second, their cost, whole lists and the corpus."""

from __future__ import annotations

from dataclasses import dataclass

from rarefy.pipeline.measure.measurements import CANDIDATE, Measurements
from rarefy.pipeline.measure.rows_per_second import Throughput
from rarefy.pipeline.terms.wording import bounds, duration, number, quantity


@dataclass
class Row:
    """One model on one target, in words; None if there is no such number."""

    model: str
    batch: int
    rate: str
    cost: str
    list_time: str | None = None
    corpus: str | None = None


def rows(timed: Throughput) -> list[Row]:
    """Return a row for each model, the candidate first."""
    return [_row(timed, model) for model in timed.samples]


def _row(timed: Throughput, model: str) -> Row:
    rate = timed.rate(model)
    cost = timed.cost(model)
    row = Row(
        model=model,
        batch=timed.batch[model],
        rate=bounds(rate, "rows/s"),
        cost=bounds(cost, ""),
    )
    list_time = timed.list_time(model)
    if list_time is not None:
        row.list_time = bounds(list_time, "ms")
    corpus = timed.corpus_seconds(model)
    if corpus is not None:
        row.corpus = duration(corpus.value)
    return row


def sizes(timed: Throughput, model: str) -> str | None:
    """Return the rows a second of each batch size that was tried; None if none were."""
    rates = timed.tried.get(model)
    if not rates:
        return None
    parts = []
    for size, rate in sorted(rates.items()):
        parts.append(f"{size}: {number(rate)}")
    return ", ".join(parts)


def line(target: str, timed: Throughput) -> str:
    """Return a target's throughput in a line: ``throughput on cpu: 1,240 rows/s [1,210, 1,271]``.

    It says with how many workers and rows of a call, and what a thousand rows cost.
    """
    row = _row(timed, CANDIDATE)
    setting = timed.setting(CANDIDATE)
    parts = [
        f"throughput on {target}: {row.rate} ({setting})",
        f"{row.cost} CPU s per 1,000 rows",
    ]
    if row.list_time:
        parts.append(f"a list of candidates in {row.list_time}")
    if row.corpus:
        documents = quantity(timed.corpus, "")
        parts.append(f"the corpus of {documents} documents in {row.corpus}")
    return "; ".join(parts)


def lines(measured: Measurements | None) -> list[str]:
    """Return a line for each target whose throughput was measured."""
    if measured is None:
        return []
    sentences = []
    for target, timed in measured.throughput.items():
        if CANDIDATE in timed.samples:
            words = line(target, timed)
            sentences.append(words)
    return sentences
