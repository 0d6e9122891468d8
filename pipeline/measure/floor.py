"""Whether a model has learned anything: a share of what a model has learned means nothing if not.

A task's *floor* is the main score of an answer that does not look at the rows, such as the most
frequent label, or that needs no model, such as BM25. A model whose interval reaches down to the
floor has not been shown to be better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.measure import scores
from pipeline.measure.measurements import Measurements
from pipeline.stage.formulas import Floats
from pipeline.stage.tasks import Task
from pipeline.stage.tasks.scorer import count_predictions
from pipeline.terms import metrics
from pipeline.terms.interval import Interval
from pipeline.terms.wording import bounds, quantity


def learned_nothing(
    task: Task, answers: Floats, truth: Sequence[Any], groups: Sequence[int] = ()
) -> str | None:
    """Return in one sentence, without a subject, that a model is not above the floor, or None.

    ``answers``: units × columns, as many as the truth asks for. None also if the task has no floor.
    """
    if not len(truth) or len(answers) != count_predictions(task, truth):
        return None
    main = next(iter(task.scorer.formulas(truth)))
    return below(task, scores.alone(task, main, answers, truth, groups=groups), truth)


def of_model(measured: Measurements, model: str) -> str | None:
    """Return the sentence of ``learned_nothing`` for a measured model; None if it answers NaN."""
    import numpy as np

    answers = measured.table(model)
    if not np.isfinite(answers).all():
        return None  # which fails on its own
    return learned_nothing(measured.scored_by, answers, measured.truth, measured.groups)


def below(task: Task, score: Interval, truth: Sequence[Any]) -> str | None:
    """Return the sentence of ``learned_nothing`` for a main score that is known already."""
    main = next(iter(task.scorer.formulas(truth)))
    floor = task.scorer.floor(truth)
    if floor is None or score.low > floor:
        return None
    unit = metrics.known(main).unit
    # It has read the rows: to be no better is not nothing.
    if other := task.scorer.baseline(truth):
        return (
            f"is not significantly above {other[0]}'s {quantity(floor, unit)}: its {main} is "
            f"{bounds(score, unit)}"
        )
    return (
        f"has learned nothing: its {main} of {bounds(score, unit)} is not significantly above the "
        f"{quantity(floor, unit)} of {task.scorer.trivial}"
    )
