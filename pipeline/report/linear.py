"""The linear model beside the transformers, in one line."""

from __future__ import annotations

from pipeline.measure.measurements import Measurements
from pipeline.terms import metrics
from pipeline.terms.interval import Interval
from pipeline.terms.vocabulary import LINEAR
from pipeline.terms.wording import bounds, quantity
from pipeline.verdict.record import LedgerRow

WORDS = "linear model (TF-IDF of words and pairs of words)"


def line(measured: Measurements | None) -> str | None:
    """Return its score, time from text to answer, size and training; None if it was not asked for.

    The time is the median of single rows, in scikit-learn and in the process that measures.
    """
    from statistics import median

    if measured is None or measured.linear is None:
        return None
    found, main = measured.linear, measured.main
    return (
        f"{WORDS}: {main} {bounds(score(measured), metrics.known(main).unit)}, "
        f"{quantity(median(found.milliseconds), 'ms')} from text to answer, "
        f"{quantity(found.size, 'B')}, trained in {found.seconds:.0f} s on {found.rows:,} rows"
    )


def score(measured: Measurements) -> Interval:
    """Return its main score with the interval."""
    return measured.score_of(measured.main, measured.linear_table())


def row(measured: Measurements | None) -> LedgerRow | None:
    """Return its row of the ledger; None if it was not asked for."""
    if measured is None or measured.linear is None:
        return None
    found, interval = measured.linear, score(measured)
    return LedgerRow(
        id=LINEAR,
        stage="validate",
        kind=LINEAR,
        digest="",
        cached=False,
        seconds=found.seconds,
        metric=measured.main,
        accuracy=(interval.value, interval.low, interval.high),
        rows=len(measured.truth),
        size=found.size,
    )
