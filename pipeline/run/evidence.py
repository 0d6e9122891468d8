"""Check before a run whether the eval split has enough rows to judge the budgets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rarefy.pipeline.measure import stopping
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.terms.metrics import known
from rarefy.pipeline.verdict import cell_power, power, power_of_times
from rarefy.pipeline.verdict.cell_power import CellNeeds
from rarefy.pipeline.verdict.power import Need

if TYPE_CHECKING:
    from rarefy.pipeline.measure.measurements import Measurements


def needs(plan: Plan, last: Path) -> list[Need | CellNeeds]:
    """Return how many eval rows each margin on a score needs, and how many there are.

    Those of labels and slices come last.

    ``last``: the folder of the recipe's last run; its measurements show how often models differ.
    """
    rows = plan.summary.different
    # Of rows in groups, nobody knows how many would do before a run has told.
    independent = plan.loaded.recipe.data.group is None
    counted = plan.unbound_task.scorer.counted and independent
    earlier, summary = _earlier(last), plan.summary
    of_all = power.needs(plan.budgets, rows, earlier, counted=counted)
    # Copies of rows are in one group, and the cells count every row.
    independent = independent and rows == summary.rows["eval"]
    of_cells = cell_power.needs(
        plan.budgets, summary.marked, summary.slices, earlier, independent=independent
    )
    return [*of_all, *of_cells]


def of_times(plan: Plan, last: Path, history: Path) -> list[str]:
    """Return what a session of latencies may not tell of the budgets; see ``power_of_times``.

    ``last``: the folder of the recipe's last run. ``history``: the file of earlier verdicts.
    """
    stages = [step.stage for step in plan.steps() if step.stage.name == "validate"]
    if not stages:
        return []
    processes = getattr(stages[-1], "processes", 0)
    earlier = _earlier(last)
    sessions = {}
    if earlier is not None:
        from rarefy.pipeline.verdict import between_sessions

        sessions = between_sessions.of_history(history, earlier)
    notes = power_of_times.notes(plan.budgets, processes, earlier, sessions)
    if any(known(budget.metric).kind in ("latency", "speedup") for budget in plan.budgets):
        most = stopping.PATIENCE * getattr(stages[-1], "seconds", 0)
        notes.append(f"near a limit, calls are timed for up to {most:g} s on each target")
    return notes


def _earlier(last: Path) -> Measurements | None:
    """Return the last run's measurements; None if it has none that this version can read."""
    if not last.is_dir():
        return None
    from rarefy.pipeline.run import folder  # which reads what a whole run has left

    try:
        return folder.read(last).measurements
    except (OSError, ValueError):
        return None
