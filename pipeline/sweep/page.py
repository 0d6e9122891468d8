"""A sweep as one HTML page that loads nothing and runs no script."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from statistics import fmean, geometric_mean
from typing import Any, Final

from rarefy.pipeline.report import facts, wording
from rarefy.pipeline.report.figures.tradeoff import tradeoff
from rarefy.pipeline.report.headline import Headline
from rarefy.pipeline.report.html import Figure, draw, render_page
from rarefy.pipeline.sweep.branch import STATES, Branch
from rarefy.pipeline.sweep.questions import Goal
from rarefy.pipeline.sweep.record import SweepRecord
from rarefy.pipeline.terms.outcomes import ORDER, SYMBOL, Outcome

MOST_VALUES: Final = 8
"""Of a field with more values, the page does not say what each gave."""
WIDTH: Final = 760
_BUDGETS: Final = {"fail": "Budgets are missed by", "inconclusive": "Budgets are inconclusive for"}


def render(record: SweepRecord) -> str:
    """Return the page."""
    metrics = [branch.metric for branch in record.branches if branch.metric]
    metric = next(iter(metrics), "accuracy")
    front = record.front
    chart = _tradeoff(record, metric)
    rows = sorted(record.branches, key=_rank)
    effects = _effects(record)
    return render_page(
        "sweep.html.j2",
        {"text": as_text},
        record=record,
        states=STATES,
        metric=metric,
        tradeoff=chart,
        head=_head(record),
        front=front,
        rows=rows,
        effects=effects,
        mean=_mean,
    )


def as_text(value: Any) -> str:
    """Return a varied value as text."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{key}: {item}" for key, item in value.items()) or "as it is"


def _head(record: SweepRecord) -> Headline:
    """Return the banner: how many questions are answered, and how the answers' budgets ended."""
    if not record.answers:
        return Headline(None, "○", "No answer yet", "The sweep has not ended.", ())
    questions = wording.plural(len(record.answers), "question")
    answered = [answer for answer in record.answers if answer.branch]
    sentence = f"{len(answered)} of {questions} answered."
    outcomes = {answer.outcome for answer in answered}
    if len(answered) < len(record.answers):
        outcomes.add("inconclusive")
    outcome: Outcome | None = None
    for name in ORDER:
        if name in outcomes:
            outcome = name
    for ending, words in _BUDGETS.items():
        named = [answer.question for answer in answered if answer.outcome == ending]
        if named:
            sentence += f" {words}: {'; '.join(named)}."
    if outcome is None:
        return Headline(None, "○", "Not judged", sentence, ())
    if outcome == "pass":
        sentence += " Their budgets are met on the held-out eval rows."
    return Headline(outcome, SYMBOL[outcome], outcome.capitalize(), sentence, ())


def _tradeoff(record: SweepRecord, metric: str) -> Figure | None:
    chosen = {answer.branch for answer in record.answers if answer.branch}
    points = []
    for branch in record.branches:
        if branch.complete and branch.latency and branch.accuracy:
            is_answer = branch.name in chosen
            points.append(facts.Point(branch.name, branch.latency, branch.accuracy, is_answer))
    if not points:
        return None
    chart = partial(tradeoff, points, metric=metric, named=chosen)
    return draw(chart, "sweep", WIDTH)


def _rank(branch: Branch) -> tuple[bool, float]:
    """Return what branches are listed by: the complete ones first, the most accurate first."""
    return not branch.complete, branch.cost("accuracy")


def _effects(record: SweepRecord) -> list[tuple[str, str, list[Branch]]]:
    """Return the complete branches that have a value, with its field, for all values."""
    complete = [branch for branch in record.branches if branch.complete]
    effects = []
    for path in record.vary:
        groups = defaultdict[str, list[Branch]](list)
        for branch in complete:
            value = as_text(branch.values.get(path))
            groups[value].append(branch)
        if 1 < len(groups) <= MOST_VALUES:
            effects += [(path, value, group) for value, group in groups.items()]
    return effects


def _mean(branches: Sequence[Branch], goal: Goal) -> float:
    """Return the mean of branches: arithmetic of the accuracy, geometric of latency and size."""
    costs = [branch.cost(goal) for branch in branches]
    if goal == "accuracy":
        return -fmean(costs)
    return geometric_mean(costs)
