"""Whether a plan's eval split can carry its budgets: known before anything runs."""

from __future__ import annotations

from pathlib import Path

from pipeline.measure.measurements import Measurements
from pipeline.run import folder
from pipeline.run.plan import Plan
from pipeline.verdict import power
from pipeline.verdict.power import Need


def needs(plan: Plan, last: Path) -> list[Need]:
    """Return for every margin of a score how many eval rows it needs, and how many there are.

    ``last``: the folder of the recipe's last run, whose measurements tell how often models differ.
    """
    return power.needs(plan.budgets, plan.summary.rows["eval"], _earlier(last))


def _earlier(last: Path) -> Measurements | None:
    """Return what the last run measured; None where there was none, or an older version's."""
    try:
        return folder.read(last).measurements
    except (OSError, ValueError):
        return None
