"""The outcome of a run: its verdict, the data of its report and its bundle."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rarefy.pipeline.measure import machine
from rarefy.pipeline.measure.measurements import CANDIDATE, FILE, Measurements
from rarefy.pipeline.measure.predictions import files as answers
from rarefy.pipeline.report import facts
from rarefy.pipeline.run.engine import Run
from rarefy.pipeline.store.artifact import Artifact, Kind, curves_of
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.verdict import between_sessions, judge
from rarefy.pipeline.verdict.record import UNKNOWN, LineageNode, ReportData


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run. ``bundle`` is the one that was measured, or else the last one."""

    data: ReportData
    bundle: Artifact | None

    def exit_code(self, strict: bool) -> int:
        """Return 0 (passed, or no budgets), 3 (budget missed) or 4 (inconclusive, ``strict``)."""
        if self.data.verdict is None:
            return 0
        return self.data.verdict.exit_code(strict)


def conclude(run: Run, command: str, history: Path | None = None) -> Outcome:
    """Judge the budgets of a finished run by its last measurements.

    ``history``: the file of earlier verdicts, which may say how much sessions differ here.
    """
    plan = run.plan
    recipe = plan.loaded.recipe
    artifacts = [step.artifact for step in run.finished.values()]
    reports = [artifact for artifact in artifacts if _has_measurements(artifact)]
    bundles = [artifact for artifact in artifacts if artifact.kind is Kind.BUNDLE]
    for artifact in (*reports[-1:], *bundles[-1:]):
        run.check(artifact)
    if plan.budgets and not reports:
        raise RecipeError(f"budgets: no stage wrote {FILE}; 'validate' does")
    measurements, judged, measured_at = None, None, None
    if reports:
        report = reports[-1]
        measurements = answers.load(report.directory)
        measured_at = _measured_at(report)
        sessions = {}
        if history is not None:
            sessions = between_sessions.of_history(history, measurements, measured_at)
        judged = judge.judge(plan.budgets, recipe.targets, measurements, sessions)
        if not judged.budgets and not plan.absent:
            judged = None  # the recipe has no budgets; a first release gets a verdict without any
    ledger = run.ledger()
    if measurements is not None:
        ledger = facts.with_predictions(ledger, measurements)
    linear_model = facts.linear_row(measurements)
    if linear_model:
        ledger.append(linear_model)
    notes = [f"{row.id} {row.note}" for row in ledger if row.note]
    lineage = [_node(identifier, step.artifact) for identifier, step in run.finished.items()]
    data = ReportData(
        name=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        measured_at=measured_at,
        command=command,
        recipe=plan.loaded.portable_text,
        task=recipe.task,
        labels=plan.labels,
        rows=plan.summary.rows,
        warnings=plan.warnings + notes,
        absent=plan.absent,
        ledger=ledger,
        lineage=lineage,
        verdict=judged,
        measurements=measurements,
        machine=machine.fingerprint(),
    )
    return Outcome(data, _delivered(bundles, measurements))


def _has_measurements(artifact: Artifact) -> bool:
    """Return whether an artifact is a report of measurements; a plug-in's may be of others."""
    if artifact.kind is not Kind.REPORT:
        return False
    names = {entry.path for entry in artifact.manifest.files}
    return FILE in names


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
    if not bundles:
        return None
    if measurements is not None:
        measured = measurements.models[CANDIDATE].digest
        for bundle in reversed(bundles):
            if bundle.digest == measured:
                return bundle
    return bundles[-1]


def _node(identifier: str, artifact: Artifact) -> LineageNode:
    manifest = artifact.manifest
    metrics = [metric.model_dump(exclude_none=True) for metric in manifest.metrics]
    record = artifact.run_record()
    curves = curves_of(record)
    return LineageNode(
        id=identifier,
        stage=manifest.stage.name,
        version=manifest.stage.version,
        digest=artifact.digest,
        kind=manifest.kind,
        parameters=manifest.stage.parameters,
        parents={parent.digest: parent.role for parent in manifest.parents},
        metrics=metrics,
        curves=curves,
    )


def as_json(outcome: Outcome, paths: dict[str, str], exit_code: int) -> dict[str, Any]:
    """Return what ``rarefy run --json`` prints."""
    data = outcome.data
    values: dict[str, Any] = {
        "outcome": None,
        "exit_code": exit_code,
        "ledger": [row.model_dump() for row in data.ledger],
        "budgets": [],
        "evidence": [],
        "warnings": data.warnings,
        "absent": data.absent,
    }
    if data.verdict is not None:
        values["outcome"] = data.verdict.outcome
        values["budgets"] = [budget.model_dump() for budget in data.verdict.budgets]
        values["evidence"] = data.verdict.evidence
    return values | paths
