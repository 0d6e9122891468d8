"""A sweep as one HTML page that loads nothing and runs no script."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, geometric_mean
from typing import Any, Final

from pipeline.report import facts
from pipeline.report.figures.tradeoff import tradeoff
from pipeline.report.html import render_page
from pipeline.sweep.branch import STATES, Branch
from pipeline.sweep.questions import Goal
from pipeline.sweep.record import SweepRecord

MOST_VALUES: Final = 8
"""Of a field with more values, the page does not say what each gave."""
WIDTH: Final = 760


def render(record: SweepRecord) -> str:
    """Return the page."""
    metrics = [branch.metric for branch in record.branches if branch.metric]
    metric = next(iter(metrics), "accuracy")
    front = record.front
    figure = _figure(record, metric)
    rows = sorted(record.branches, key=_rank)
    effects = _effects(record)
    return render_page(
        "sweep.html.j2",
        {"text": as_text},
        record=record,
        states=STATES,
        metric=metric,
        figure=figure,
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


def _figure(record: SweepRecord, metric: str) -> str | None:
    chosen = {answer.branch for answer in record.answers if answer.branch}
    points = []
    for branch in record.branches:
        if branch.complete and branch.latency and branch.accuracy:
            is_answer = branch.name in chosen
            points.append(facts.Point(branch.name, branch.latency, branch.accuracy, is_answer))
    if not points:
        return None
    return tradeoff(points, WIDTH, "sweep", metric, chosen)


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
