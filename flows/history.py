"""What a command leaves in the project's history of verdicts."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import RarefyError

if TYPE_CHECKING:
    from flows.bundles import Bundle
    from pipeline.engine import Run
    from pipeline.measure.measurements import Measurements
    from pipeline.report.data import ReportData
    from pipeline.verdict import Verdict


def keep(home: Path, data: ReportData, recipe: Path) -> None:
    """Add a verdict to ``home``'s history; what goes wrong is a warning on stderr.

    A run's verdict and report matter more than its place in the history.
    """
    from pipeline import history

    try:
        commit = history.commit(recipe.resolve().parent)
        history.History(home / history.FILE).add(data, commit)
    except (RarefyError, OSError) as error:
        print(f"rarefy: warning: this verdict is not in the history: {error}", file=sys.stderr)


def keep_validated(
    home: Path, run: Run, bundle: Bundle, verdict: Verdict, measurements: Measurements
) -> None:
    """Add the verdict on a bundle that was measured again, without the run that made it."""
    from pipeline.report.data import ReportData

    recipe, path = run.loaded.recipe, run.loaded.path
    words = ("rarefy", "validate", bundle.name, "--recipe", str(path))
    data = ReportData(
        name=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=shlex.join(words),
        recipe=path.read_text(),
        task=recipe.task,
        labels=run.labels,
        rows=run.summary.rows,
        ledger=[],
        lineage=[],
        verdict=verdict,
        measurements=measurements,
        machine=measurements.machine,
    )
    keep(home, data, path)
