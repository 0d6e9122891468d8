"""Add verdicts to the project's history."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

from pipeline.measure.measurements import Measurements
from pipeline.release.bundles import Bundle
from pipeline.run.plan import Plan
from pipeline.terms.credentials import redact
from pipeline.terms.errors import ProviderError, RarefyError
from pipeline.verdict import history
from pipeline.verdict.record import ReportData
from pipeline.verdict.verdict import Verdict


def keep(home: Path, data: ReportData, sources: Path) -> RarefyError | None:
    """Add a verdict to ``home``'s history; return why a verdict that matters was not added.

    ``sources``: the recipe's folder, whose git commit is recorded. If that fails, one line on
    stderr says so. For a pass that is all, because a run's verdict and report matter more than its
    entry in the history. Any other verdict that is missing there could be passed over by
    `rarefy promote`, so the error is returned, and the command must not exit 0.
    """
    try:
        commit = history.commit(sources)
        history.History(home / history.FILE).add(data, commit)
    except (RarefyError, OSError) as error:
        passed = data.verdict is None or (
            data.verdict.outcome == "pass" and not data.verdict.evidence
        )
        if passed:
            _say(f"warning: the verdict was not added to the history: {error}")
            return None
        _say(
            "the verdict, which is not a pass, was not added to the history, so `rarefy promote` "
            f"would not know of it: {error}"
        )
        return error if isinstance(error, RarefyError) else ProviderError(str(error))
    return None


def _say(message: str) -> None:
    print(f"rarefy: {redact(message)}", file=sys.stderr)


def keep_validated(
    home: Path, plan: Plan, bundle: Bundle, verdict: Verdict, measurements: Measurements
) -> RarefyError | None:
    """Add the verdict on a bundle that was measured again, without rebuilding it; see ``keep``."""
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
    return keep(home, data, loaded.base)
