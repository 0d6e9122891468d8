"""The throughput of a run in words: rows a second, their cost, whole lists and the corpus."""

from __future__ import annotations

from dataclasses import dataclass

from rarefy.pipeline.measure.measurements import CANDIDATE, Measurements
from rarefy.pipeline.measure.throughput.record import Throughput
from rarefy.pipeline.terms.wording import bounds, duration, number, quantity


@dataclass(frozen=True)
class Row:
    """One model on one target, in words; None if there is no such number."""

    model: str
    batch: int
    rate: str
    cost: str
    list_time: str | None
    corpus: str | None


def rows(timed: Throughput) -> list[Row]:
    """Return a row for each model, the candidate first."""
    return [_row(timed, model) for model in timed.samples]


def _row(timed: Throughput, model: str) -> Row:
    list_time = timed.list_time(model)
    corpus = timed.corpus_seconds(model)
    return Row(
        model=model,
        batch=timed.batch[model],
        rate=bounds(timed.rate(model), "rows/s"),
        cost=bounds(timed.cost(model), ""),
        list_time=None if list_time is None else bounds(list_time, "ms"),
        corpus=None if corpus is None else duration(corpus.value),
    )


def sizes(timed: Throughput, model: str) -> str | None:
    """Return the rows a second of each batch size that was tried; None if none were."""
    rates = timed.tried.get(model)
    if not rates:
        return None
    return ", ".join(f"{size}: {number(rate)}" for size, rate in sorted(rates.items()))


def line(target: str, timed: Throughput) -> str:
    """Return a target's throughput in a line: ``throughput on cpu: 1,240 rows/s [1,210, 1,271]``.

    It says with how many workers and rows of a call, and what a thousand rows cost.
    """
    row = _row(timed, CANDIDATE)
    parts = [
        f"throughput on {target}: {row.rate} ({timed.setting(CANDIDATE)})",
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
    counted = measured.throughput.items()
    return [line(target, timed) for target, timed in counted if CANDIDATE in timed.samples]
