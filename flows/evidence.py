"""Whether a run's eval split can carry its budgets: known before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import outcome

if TYPE_CHECKING:
    from pipeline.engine import Run
    from pipeline.measure.measurements import Measurements
    from pipeline.measure.power import Need


def needs(run: Run, last: Path) -> list[Need]:
    """Return for every margin of a score how many eval rows it needs, and how many there are.

    ``last``: the folder of the recipe's last run, whose measurements tell how often models differ.
    """
    from pipeline.measure import power

    return power.needs(run.budgets, run.summary.rows["eval"], _earlier(last))


def _earlier(last: Path) -> Measurements | None:
    """Return what the last run measured; None where there was none, or an older version's."""
    try:
        return outcome.read(last).measurements
    except (OSError, ValueError):
        return None
