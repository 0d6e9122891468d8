"""A task whose rows have no labels: the answers of the recipe's model are the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from rarefy.pipeline.tasks.shared import formulas
from rarefy.pipeline.tasks.shared.formulas import Formula
from rarefy.pipeline.tasks.task import Task

if TYPE_CHECKING:
    from rarefy.pipeline.tasks.shared.formulas import Floats, Score
    from rarefy.pipeline.terms.recipe_parts import Data

AGREEMENT = "agreement"


def of_data(task: type[Task], data: Data) -> type[Task]:
    """Return a task as it is for such data: of rows without labels if there are none.

    Raises DataError if the data names columns that the task cannot have.
    """
    return of(task) if task.bare(data) else task


@cache
def of(task: type[Task]) -> type[Task]:
    """Return a task whose only score is agreement: the share of rows answered as the model does.

    Everything else is the task's own, or that of its ``own_form``. There is no table by class and
    no calibration error: the model's answers are no labels.
    """
    bases = (task,) if task.own_form is None else (task.own_form, task)
    first = bases[0]

    def agreement(answers: Floats, truth: Sequence[Any]) -> Score:
        return formulas.share(made.right(answers, truth))

    def floor(cls: type[Task], truth: Sequence[Any]) -> float | None:
        """Return the floor of a task that counts rows, or of its own form; of others None.

        1 if the model answers all rows alike.
        """
        if len(truth) > 0 and cls.uniform(truth):
            return 1.0
        return first.floor(truth) if task.counted or first is task.own_form else None

    scores: Mapping[str, Formula] = {AGREEMENT: agreement}
    changes = {
        "__doc__": f"{task.__name__} of rows without labels.",
        "__module__": task.__module__,
        "unlabelled": True,
        "by_class": False,
        "marks": classmethod(lambda cls, tables, truth, labels: None),
        "scores": scores,
        "floor": classmethod(floor),
        "formulas": classmethod(lambda cls, truth: scores),
        "scored": classmethod(lambda cls, data: scores),
    }
    made: type[Task] = type(f"Unlabelled{task.__name__}", bases, changes)
    return made
