"""Whether a model has learned anything: a share of what a model has learned means nothing if not.

A task's *floor* is the main score of an answer that does not look at the rows, such as the most
frequent label, or that needs no model, such as BM25. A model whose interval reaches down to the
floor has not been shown to be better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rarefy.pipeline.measure.measurements import Measurements
from rarefy.pipeline.measure.statistics import scores
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.tasks.shared.formulas import Floats
from rarefy.pipeline.tasks.task import count_predictions
from rarefy.pipeline.terms import metrics
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.wording import bounds, quantity


def learned_nothing(
    task: Task, answers: Floats, truth: Sequence[Any], groups: Sequence[int] = ()
) -> str | None:
    """Return in one sentence, without a subject, that a model is not above the floor, or None.

    ``answers``: units × columns, as many as the truth asks for. None also if the task has no floor.
    """
    if not len(truth) or len(answers) != count_predictions(task, truth):
        return None
    main = next(iter(task.scorer.formulas(truth)))
    score = scores.alone(task, main, answers, truth, groups=groups)
    return below(task, score, truth)


def of_model(measured: Measurements, model: str) -> str | None:
    """Return the sentence of ``learned_nothing`` for a measured model; None if it answers NaN."""
    import numpy as np

    answers = measured.table(model)
    if not np.isfinite(answers).all():
        return None  # which fails on its own
    task, truth = measured.scored_by, measured.truth
    return learned_nothing(task, answers, truth, measured.groups)


def below(task: Task, score: Interval, truth: Sequence[Any]) -> str | None:
    """Return the sentence of ``learned_nothing`` for a main score that is known already."""
    main = next(iter(task.scorer.formulas(truth)))
    floor = task.scorer.floor(truth)
    if floor is None or score.low > floor:
        return None
    unit = metrics.known(main).unit
    value, least = bounds(score, unit), quantity(floor, unit)
    rival = task.scorer.baseline(truth)
    if rival:  # which has read the rows: to be no better is not nothing
        return f"is not significantly above {rival[0]}'s {least}: its {main} is {value}"
    return (
        f"is no better than a trivial baseline: its {main} of {value} is not significantly above "
        f"the {least} of "
        f"{task.scorer.trivial}"
    )
