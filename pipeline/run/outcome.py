"""The outcome of a run: its verdict, the data of its report and its bundle."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.measure import answers, machine
from pipeline.measure.measurements import CANDIDATE, FILE, Measurements
from pipeline.report import facts
from pipeline.run.engine import Run
from pipeline.store.artifact import Artifact, Kind
from pipeline.terms.errors import RecipeError
from pipeline.verdict import judge
from pipeline.verdict.record import UNKNOWN, LineageNode, ReportData


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run. ``bundle`` is the one that was measured, or else the last one."""

    data: ReportData
    bundle: Artifact | None

    def exit_code(self, strict: bool) -> int:
        """Return 0 (passed, or no budgets), 3 (budget missed) or 4 (inconclusive, ``strict``)."""
        return self.data.verdict.exit_code(strict) if self.data.verdict else 0


def conclude(run: Run, command: str) -> Outcome:
    """Judge the budgets of a finished run by its last measurements."""
    finished = run.finished.values()
    reports = [step.artifact for step in finished if _measured(step.artifact)]
    bundles = [step.artifact for step in finished if step.artifact.kind is Kind.BUNDLE]
    measurements, judged = None, None
    recipe = run.plan.loaded.recipe
    for artifact in (*reports[-1:], *bundles[-1:]):
        run.check(artifact)
    if run.plan.budgets and not reports:
        raise RecipeError(f"budgets: no stage wrote {FILE}; 'validate' does")
    if reports:
        measurements = answers.load(reports[-1].directory)
        judged = judge.judge(run.plan.budgets, recipe.targets, measurements)
        if not judged.budgets and not run.plan.absent:
            judged = None  # the recipe has no budgets; a first release gets a verdict without any
    ledger = run.ledger()
    linear = facts.linear_row(measurements)
    if linear:
        ledger.append(linear)
    data = ReportData(
        name=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        measured_at=_measured_at(reports[-1]) if reports else None,
        command=command,
        recipe=run.plan.loaded.portable_text,
        task=recipe.task,
        labels=run.plan.labels,
        rows=run.plan.summary.rows,
        warnings=run.plan.warnings + [f"{row.id} {row.note}" for row in ledger if row.note],
        absent=run.plan.absent,
        ledger=ledger,
        lineage=[_node(identifier, step.artifact) for identifier, step in run.finished.items()],
        verdict=judged,
        measurements=measurements,
        machine=machine.fingerprint(),
    )
    return Outcome(data, _delivered(bundles, measurements))


def _measured(artifact: Artifact) -> bool:
    """Whether an artifact is a report of measurements; a plug-in's may be of anything else."""
    names = {entry.path for entry in artifact.manifest.files}
    return artifact.kind is Kind.REPORT and FILE in names


def _measured_at(report: Artifact) -> str:
    """Return when an artifact's stage ended, also if this run found it in the store.

    Returns UNKNOWN if its run record is missing or damaged: this run's own time would let an old
    measurement outrank a newer one.
    """
    try:
        ended = datetime.fromisoformat(report.run_record()["ended"])
    except (KeyError, TypeError, ValueError):
        return UNKNOWN
    return ended.isoformat(timespec="milliseconds")


def _delivered(bundles: list[Artifact], measurements: Measurements | None) -> Artifact | None:
    """Return the bundle that was measured, or the last one if none was measured."""
    if measurements is not None:
        measured = measurements.models[CANDIDATE].digest
        bundles = [bundle for bundle in bundles if bundle.digest == measured] or bundles
    return bundles[-1] if bundles else None


def _node(identifier: str, artifact: Artifact) -> LineageNode:
    manifest = artifact.manifest
    return LineageNode(
        id=identifier,
        stage=manifest.stage.name,
        version=manifest.stage.version,
        digest=artifact.digest,
        kind=manifest.kind,
        parameters=manifest.stage.parameters,
        parents={parent.digest: parent.role for parent in manifest.parents},
        metrics=[metric.model_dump(exclude_none=True) for metric in manifest.metrics],
    )


def as_json(outcome: Outcome, paths: dict[str, str], exit_code: int) -> dict[str, Any]:
    """Return what ``rarefy run --json`` prints."""
    judged = outcome.data.verdict
    return {
        "outcome": judged.outcome if judged else None,
        "exit_code": exit_code,
        "ledger": [row.model_dump() for row in outcome.data.ledger],
        "budgets": [budget.model_dump() for budget in judged.budgets] if judged else [],
        "evidence": judged.evidence if judged else [],
        "warnings": outcome.data.warnings,
        "absent": outcome.data.absent,
        **paths,
    }
