"""Add verdicts to the project's history."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

from pipeline.measure.measurements import Measurements
from pipeline.release.bundles import Bundle
from pipeline.run.plan import Plan
from pipeline.terms.errors import RarefyError
from pipeline.verdict import history
from pipeline.verdict.record import ReportData
from pipeline.verdict.verdict import Verdict


def keep(home: Path, data: ReportData, sources: Path) -> None:
    """Add a verdict to ``home``'s history; print a warning on stderr if that fails.

    ``sources``: the recipe's folder, whose git commit is recorded. A failure is not an error,
    because a run's verdict and report matter more than its entry in the history.
    """
    try:
        commit = history.commit(sources)
        history.History(home / history.FILE).add(data, commit)
    except (RarefyError, OSError) as error:
        print(
            f"rarefy: warning: the verdict was not added to the history: {error}", file=sys.stderr
        )


def keep_validated(
    home: Path, plan: Plan, bundle: Bundle, verdict: Verdict, measurements: Measurements
) -> None:
    """Add the verdict on a bundle that was measured again without being rebuilt."""
    loaded = plan.loaded
    words = ["rarefy", "validate", bundle.name]
    words += ["--recipe", str(loaded.path)] if loaded.path else []
    now = datetime.now(UTC)
    data = ReportData(
        name=loaded.recipe.name,
        created=now.isoformat(timespec="seconds"),
        measured_at=now.isoformat(timespec="milliseconds"),
        command=shlex.join(words),
        recipe=loaded.portable_text,
        task=loaded.recipe.task,
        labels=plan.labels,
        rows=plan.summary.rows,
        ledger=[],
        lineage=[],
        verdict=verdict,
        measurements=measurements,
        machine=measurements.machine,
    )
    keep(home, data, loaded.base)
