"""Which models' rows a second ``validate`` measures on a target, and whether it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rarefy.pipeline.terms import metrics
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.recipe_parts import CANDIDATE, Target
from rarefy.pipeline.terms.wording import plural

if TYPE_CHECKING:
    from rarefy.pipeline.measure.measurements import Measurements

START: Final = 3.0
"""Seconds in which the workers of a round start, load a few models and are warm."""


def budgets_on(target: Target, budgets: Sequence[Budget]) -> list[Budget]:
    """Return the budgets on the throughput on a target."""
    on_target = [budget for budget in budgets if budget.target in (None, target.name)]
    return [budget for budget in on_target if metrics.known(budget.metric).kind == "throughput"]


def models(target: Target, budgets: Sequence[Budget], measured: Measurements) -> list[str]:
    """Return the candidate, and the measured models that a budget compares its throughput with.

    No others: a teacher takes as long as a hundred students.
    """
    names = [CANDIDATE]
    for budget in budgets_on(target, budgets):
        name = measured.name_of(budget.against or "")
        if name is not None and name not in names:
            names.append(name)
    return names


def plan(target: Target, budgets: Sequence[Budget]) -> str:
    """Return in words what will be measured on a target; ``budgets`` are the recipe's."""
    from rarefy.pipeline.measure.throughput import session

    names = [CANDIDATE]
    names += [budget.against for budget in budgets_on(target, budgets) if budget.against]
    distinct = dict.fromkeys(names)
    models = " and ".join(distinct)
    workers = plural(session.workers_on(target), "worker")
    threads = plural(target.threads, "thread")
    rows = f"batches of {target.batch_size}"
    if target.batch_size is None:
        sizes = ", ".join(map(str, session.SIZES))
        rows = f"the fastest of batches of {sizes}"
    return (
        f"throughput on {target.name}: rows a second of {models} with {workers} × {threads}, in "
        f"{rows}"
    )


def duration(processes: int, seconds: float) -> float:
    """Return about how many seconds the fewest rounds take, with the one that chooses a batch."""
    from rarefy.pipeline.measure.throughput import session

    started = (1 + processes) * START
    timed = (len(session.SIZES) + processes) * seconds / session.SHARE
    return started + timed
