"""Two models side by side as one HTML page that loads nothing and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rarefy.pipeline.measure.measurements import CANDIDATE, Latency, Measurements
from rarefy.pipeline.report import accuracy, headline, wording
from rarefy.pipeline.report.figures.distribution import distribution
from rarefy.pipeline.report.headline import Headline, Number
from rarefy.pipeline.report.html import HALF, draw, render_page
from rarefy.pipeline.terms import metrics
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.outcomes import SYMBOL
from rarefy.pipeline.verdict.verdict import Verdict

MAX_EXAMPLES = 12


@dataclass(frozen=True)
class Compared:
    """What the page shows.

    ``names``        the user's names of the candidate and the baseline
    ``baseline``     the baseline's name in the measurements
    ``latency``      of both, timed together
    ``ratio``        the candidate's median latency divided by the baseline's
    ``rows``         a row for each quantity: its name, both values, and how they differ
    ``verdict``      None if nothing was judged
    ``notes``        what disturbed the measurement
    """

    names: tuple[str, str]
    measurements: Measurements
    baseline: str
    latency: Latency
    ratio: Interval
    rows: Sequence[Sequence[str]]
    verdict: Verdict | None
    notes: Sequence[str]


def render(compared: Compared) -> str:
    """Return the page."""
    measured = compared.measurements
    sides = (CANDIDATE, compared.baseline)
    curves = partial(distribution, {side: compared.latency.samples[side] for side in sides})
    budgets = []
    if compared.verdict is not None:
        budgets = headline.by_urgency(compared.verdict.budgets)
    return render_page(
        "compare.html.j2",
        {},
        compared=compared,
        head=_head(compared),
        figure_=draw(curves, "distribution", HALF),
        budgets=budgets,
        kinds=accuracy.example_tables(measured.samples, compared.baseline),
        most=MAX_EXAMPLES,
    )


def _head(compared: Compared) -> Headline:
    numbers = (_speed(compared), _size(compared), _score(compared))
    verdict = compared.verdict
    candidate, baseline = compared.names
    if verdict is None:
        sentence = f"{candidate} next to {baseline}; no limit was set (--max-regression)."
        return Headline(None, "○", "Compared", sentence, numbers)
    unmet = tuple(headline.unmet(verdict.budgets, compared.measurements))
    outcome = verdict.outcome
    sentence = headline.judged(verdict.budgets)
    return Headline(outcome, SYMBOL[outcome], outcome.capitalize(), sentence, numbers, unmet)


def _speed(compared: Compared) -> Number:
    value, low, high = compared.ratio
    faster = Interval(1 / value, 1 / high, 1 / low)
    threads = wording.plural(compared.latency.threads, "thread")
    number = headline.comparison(faster, "faster", "slower", f"p50 with {threads}")
    return headline.cautioned(number, compared.latency)


def _size(compared: Compared) -> Number:
    models = compared.measurements.models
    ours, theirs = [models[side].size for side in (CANDIDATE, compared.baseline)]
    detail = f"candidate {wording.size(ours)}, baseline {wording.size(theirs)}"
    ratio = theirs / max(ours, 1)
    return headline.comparison(Interval(ratio, ratio, ratio), "smaller", "larger", detail)


def _score(compared: Compared) -> Number:
    """Return the difference of the main scores."""
    measured = compared.measurements
    main = measured.main
    ours, theirs = [measured.table(side) for side in (CANDIDATE, compared.baseline)]
    difference = measured.compare(main, ours, theirs).difference
    form: Any = wording.signed_number
    unit = ""
    if metrics.unit(main) == "%":
        form = wording.signed
        unit = f"{wording.NBSP}points"
    value, low, high = [f"{form(end)}{unit}" for end in difference]
    scores = [wording.score(measured.score(main, side).value, main) for side in measured.models]
    detail = f"candidate {scores[0]}, baseline {scores[1]}"
    clear = not difference.low <= 0 <= difference.high
    title = metrics.title(main).lower()
    return Number(value, title, wording.span(low, high), detail, clear)
