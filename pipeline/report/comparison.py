"""Two models side by side as one HTML page that loads nothing and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from rarefy.pipeline.measure.measurements import CANDIDATE, Latency, Measurements
from rarefy.pipeline.report import accuracy, headline, wording
from rarefy.pipeline.report.figures.distribution import distribution
from rarefy.pipeline.report.headline import Headline, Number
from rarefy.pipeline.report.html import HALF, draw, render_page
from rarefy.pipeline.terms import metrics
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.outcomes import SYMBOL
from rarefy.pipeline.terms.wording import Form
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
    samples = {}
    for side in (CANDIDATE, compared.baseline):
        samples[side] = compared.latency.samples[side]
    curves = partial(distribution, samples)
    budgets = []
    if compared.verdict is not None:
        budgets = headline.by_urgency(compared.verdict.budgets)
    disagreements = compared.measurements.samples
    return render_page(
        "compare.html.j2",
        {},
        compared=compared,
        head=_head(compared),
        latency=draw(curves, "distribution", HALF),
        budgets=budgets,
        kinds=accuracy.example_tables(disagreements, compared.baseline),
        most=MAX_EXAMPLES,
    )


def _head(compared: Compared) -> Headline:
    speed = _speed(compared)
    size = _size(compared)
    score = _score(compared)
    numbers = (speed, size, score)
    verdict = compared.verdict
    if verdict is None:
        candidate, baseline = compared.names
        sentence = f"{candidate} next to {baseline}; no limit was set (--max-regression)."
        return Headline(None, "○", "Compared", sentence, numbers)
    unmet = headline.unmet(verdict.budgets, compared.measurements)
    outcome = verdict.outcome
    symbol = SYMBOL[outcome]
    word = outcome.capitalize()
    sentence = headline.judged(verdict.budgets)
    return Headline(outcome, symbol, word, sentence, numbers, tuple(unmet))


def _speed(compared: Compared) -> Number:
    value, low, high = compared.ratio
    faster = Interval(1 / value, 1 / high, 1 / low)
    threads = wording.plural(compared.latency.threads, "thread")
    number = headline.comparison(faster, "faster", "slower", f"p50 with {threads}")
    return headline.cautioned(number, compared.latency)


def _size(compared: Compared) -> Number:
    models = compared.measurements.models
    ours = models[CANDIDATE].size
    theirs = models[compared.baseline].size
    before = wording.size(theirs)
    after = wording.size(ours)
    detail = f"candidate {after}, baseline {before}"
    ratio = theirs / max(ours, 1)
    exact = Interval(ratio, ratio, ratio)
    return headline.comparison(exact, "smaller", "larger", detail)


def _score(compared: Compared) -> Number:
    """Return the difference of the main scores."""
    measured = compared.measurements
    main = measured.main
    ours = measured.table(CANDIDATE)
    theirs = measured.table(compared.baseline)
    difference = measured.compare(main, ours, theirs).difference
    form: Form = wording.signed_number
    unit = ""
    if metrics.unit(main) == "%":
        form = wording.signed
        unit = f"{wording.NBSP}points"
    shown = []
    for end in difference:
        number = form(end, 0)
        shown.append(f"{number}{unit}")
    value, low, high = shown
    after = measured.score_of(main, ours).value
    before = measured.score_of(main, theirs).value
    detail = f"candidate {wording.score(after, main)}, baseline {wording.score(before, main)}"
    clear = not difference.low <= 0 <= difference.high
    title = metrics.title(main).lower()
    interval = wording.span(low, high)
    return Number(value, title, interval, detail, clear)
