"""A sweep as one HTML page that loads nothing and runs no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from pipeline.report import facts, wording
from pipeline.report.figures.tradeoff import tradeoff
from pipeline.report.html import render_page
from pipeline.sweep.branch import Branch
from pipeline.sweep.record import Answer, SweepRecord
from pipeline.terms.interval import Interval

MOST_VALUES: Final = 8
"""Of a field with more values, the page does not say what each gave."""
WIDTH: Final = 760
NONE: Final = "–"


@dataclass(frozen=True)
class Row:
    """A branch in the table, in words."""

    name: str
    marks: tuple[str, ...]
    values: tuple[str, ...]
    accuracy: str
    latency: str
    size: str
    state: str
    why: str


@dataclass(frozen=True)
class Effect:
    """What a value of a field gave, as the mean of the branches that have it."""

    field: str
    value: str
    branches: int
    accuracy: str
    latency: str
    size: str


@dataclass(frozen=True)
class Shown:
    """An answer in words; without a branch, only the question."""

    question: str
    branch: str | None
    values: str
    dev: str
    held_out: str | None
    latency: str
    size: str
    answer: Answer


def render(record: SweepRecord) -> str:
    """Return the page."""
    return render_page(
        "sweep.html.j2",
        {},
        record=record,
        counts=_counts(record.branches),
        answers=[_answer(record, answer) for answer in record.answers],
        figure=_figure(record),
        fields=list(record.vary),
        metric=_metric(record),
        rows=_rows(record),
        effects=_effects(record),
        seconds=wording.duration(record.seconds),
        wall=wording.duration(record.wall),
    )


def shown(value: Any) -> str:
    """Return a varied value as text."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {shown(each)}" for key, each in value.items()) or "as it is"
    return str(value)


def _counts(branches: Sequence[Branch]) -> list[str]:
    states = ("done", "stopped", "failed", "running", "waiting")
    counts = {state: sum(branch.state == state for branch in branches) for state in states}
    return [f"{number} {state}" for state, number in counts.items() if number]


def _metric(record: SweepRecord) -> str:
    return next((branch.metric for branch in record.branches if branch.metric), "accuracy")


def _accuracy(branch: Branch, interval: Interval | None) -> str:
    if interval is None:
        return NONE
    value, low, high = (wording.score(each, branch.metric) for each in interval)
    return f"{value} [{low}, {high}]"


def _milliseconds(interval: Interval | None) -> str:
    if interval is None:
        return NONE
    low, high = wording.significant(interval.low), wording.milliseconds(interval.high)
    return f"{wording.milliseconds(interval.value)} [{low}, {high}]"


def _size(branch: Branch) -> str:
    return NONE if branch.size is None else wording.size(branch.size)


def _answer(record: SweepRecord, answer: Answer) -> Shown:
    branch = record.branch(answer.branch)
    if branch is None:
        return Shown(answer.question, None, "", NONE, None, NONE, NONE, answer)
    return Shown(
        question=answer.question,
        branch=branch.name,
        values=", ".join(f"{path} = {shown(value)}" for path, value in branch.values.items()),
        dev=_accuracy(branch, branch.accuracy),
        held_out=None if answer.accuracy is None else _accuracy(branch, answer.accuracy),
        latency=_milliseconds(branch.latency),
        size=_size(branch),
        answer=answer,
    )


def _figure(record: SweepRecord) -> str | None:
    chosen = {answer.branch for answer in record.answers}
    points = [
        facts.Point(branch.name, branch.latency, branch.accuracy, branch.name in chosen)
        for branch in record.branches
        if branch.complete and branch.latency and branch.accuracy
    ]
    if not points:
        return None
    named = {name for name in chosen if name}
    return tradeoff(points, WIDTH, "sweep", _metric(record), named)


def _rows(record: SweepRecord) -> list[Row]:
    """Return the front's branches by accuracy, then the others that are done, then the rest."""
    front = [branch.name for branch in record.front]

    def place(branch: Branch) -> tuple[int, float]:
        if branch.name in front:
            return 0, front.index(branch.name)
        return (1 if branch.complete else 2), branch.cost("accuracy")

    rows = []
    for branch in sorted(record.branches, key=place):
        marks = [answer.question for answer in record.answers if answer.branch == branch.name]
        marks += ["on the front"] if branch.name in front and not marks else []
        rows.append(
            Row(
                name=branch.name,
                marks=tuple(marks),
                values=tuple(shown(branch.values.get(path, NONE)) for path in record.vary),
                accuracy=_accuracy(branch, branch.accuracy),
                latency=_milliseconds(branch.latency),
                size=_size(branch),
                state=branch.state,
                why=branch.why or "",
            )
        )
    return rows


def _effects(record: SweepRecord) -> list[Effect]:
    """Return the means of each value, over the branches that are complete."""
    complete = [branch for branch in record.branches if branch.complete]
    effects = []
    for path in record.vary:
        values = {shown(branch.values.get(path)): None for branch in complete}
        if not 1 < len(values) <= MOST_VALUES:
            continue
        for value in values:
            having = [branch for branch in complete if shown(branch.values.get(path)) == value]
            accuracy = fmean(-branch.cost("accuracy") for branch in having)
            effects.append(
                Effect(
                    field=path,
                    value=value,
                    branches=len(having),
                    accuracy=wording.score(accuracy, having[0].metric),
                    latency=wording.milliseconds(_geometric(having, "latency")),
                    size=wording.size(_geometric(having, "size")),
                )
            )
    return effects


def _geometric(branches: Sequence[Branch], goal: Any) -> float:
    return math.exp(fmean(math.log(max(branch.cost(goal), 1e-9)) for branch in branches))
