"""What a run came to: verdict, report and bundle, gathered from its artifacts and written down."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import disk, verdict
from pipeline.artifact import Artifact, Kind
from pipeline.engine import Run
from pipeline.measure import machine
from pipeline.measure.measurements import CANDIDATE, Measurements
from pipeline.report.data import LineageNode, ReportData

MEASUREMENTS = "measurements.json"
CI_FILES = {
    "junit": "junit.xml",
    "metrics": "metrics.txt",
    "bencher": "bmf.json",
    "benchmark_smaller": "benchmark-smaller.json",
    "benchmark_bigger": "benchmark-bigger.json",
}
"""What ``draw_ci`` writes: its name here, and the file's."""
WRITTEN = ("report.html", "summary.md", "verdict.json", "run.json", *CI_FILES.values())
BUNDLE = "bundle"
_UNFINISHED = re.compile(rf"\.({'|'.join(map(re.escape, (*WRITTEN, BUNDLE)))})-[0-9a-f]{{32}}")
"""The names of what is not whole yet, or no more: a file or a folder beside the one it becomes."""


@dataclass(frozen=True)
class Outcome:
    """The end of a run. ``bundle`` is the last ONNX bundle, where the recipe makes one."""

    data: ReportData
    bundle: Artifact | None

    def exit_code(self, strict: bool) -> int:
        """0 pass or nothing to judge, 3 a budget was missed, 4 inconclusive under ``strict``."""
        return self.data.verdict.exit_code(strict) if self.data.verdict else 0


def conclude(run: Run, command: str) -> Outcome:
    """Judge the finished run's budgets by its last measurements."""
    finished = run.finished.values()
    reports = [step.artifact for step in finished if step.artifact.kind is Kind.REPORT]
    bundles = [step.artifact for step in finished if step.artifact.kind is Kind.BUNDLE]
    measurements, judged = None, None
    recipe = run.loaded.recipe
    for artifact in (*reports[-1:], *bundles[-1:]):
        run.check(artifact)
    if reports:
        text = reports[-1].path(MEASUREMENTS).read_bytes()
        measurements = Measurements.model_validate_json(text)
        judged = verdict.judge(run.budgets, recipe.targets, measurements)
        if not judged.budgets and not run.absent:
            judged = None  # nothing was asked; of a first release there may be nothing to ask yet
    data = ReportData(
        name=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        recipe=run.loaded.path.read_text(),
        task=recipe.task,
        labels=run.labels,
        rows=run.summary.rows,
        warnings=run.warnings,
        absent=run.absent,
        ledger=run.ledger(),
        lineage=[_node(identifier, step.artifact) for identifier, step in run.finished.items()],
        verdict=judged,
        measurements=measurements,
        machine=machine.fingerprint(),
    )
    return Outcome(data, _delivered(bundles, measurements))


def _delivered(bundles: list[Artifact], measurements: Measurements | None) -> Artifact | None:
    """Return the bundle that was measured, or the last one where none was."""
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


def write(outcome: Outcome, directory: Path) -> dict[str, str]:
    """Write report.html, summary.md, verdict.json and the bundle's copy; return what is where.

    Each file is replaced in one step, so a reader never sees half of one; what an earlier run left
    and this one has not made goes. Raises ProviderError where the disk is full.
    """
    with _holding(directory):
        paths = _draw(outcome.data, directory)
        if outcome.bundle is not None:
            paths["bundle"] = directory / BUNDLE
            copy_bundle(outcome.bundle, paths["bundle"])
        else:
            _drop_bundle(directory)
        _replace(directory / "run.json", outcome.data.model_dump_json(by_alias=True))
    return {name: str(path) for name, path in paths.items()}


def draw(data: ReportData, directory: Path) -> dict[str, Path]:
    """Write report.html, summary.md and, where budgets were judged, verdict.json."""
    with _holding(directory):
        return _draw(data, directory)


def _draw(data: ReportData, directory: Path) -> dict[str, Path]:
    from pipeline.report import html, markdown

    (directory / "verdict.json").unlink(missing_ok=True)  # an older one must not stand beside
    paths = {"report": directory / "report.html", "summary": directory / "summary.md"}
    _replace(paths["report"], html.render(data))
    _replace(paths["summary"], markdown.render(data))
    if data.verdict is not None:
        paths["verdict"] = directory / "verdict.json"
        _replace(paths["verdict"], data.verdict.model_dump_json(by_alias=True, indent=1) + "\n")
    return paths


def draw_ci(data: ReportData, directory: Path, strict: bool) -> dict[str, str]:
    """Write what CI systems and trackers read of a run; return what is where."""
    from pipeline.report.ci import bencher, benchmark_action, junit, openmetrics
    from pipeline.report.ci.numbers import measured

    numbers = measured(data)
    texts = {
        "junit": junit.render(data, strict),
        "metrics": openmetrics.render(data, numbers),
        "bencher": bencher.render(data, numbers),
        "benchmark_smaller": benchmark_action.render(data, numbers, bigger=False),
        "benchmark_bigger": benchmark_action.render(data, numbers, bigger=True),
    }
    with _holding(directory):
        for name, text in texts.items():
            _replace(directory / CI_FILES[name], text)
    return {name: str(directory / CI_FILES[name]) for name in texts}


def draw_broken(name: str, reason: str, directory: Path) -> None:
    """Write junit.xml and summary.md of a run that came to no verdict, and nothing else.

    What an earlier run left in ``directory`` goes, or its verdict would be taken for this one's.
    """
    from pipeline.report import markdown
    from pipeline.report.ci import junit

    with _holding(directory):
        for file in WRITTEN:
            (directory / file).unlink(missing_ok=True)
        _drop_bundle(directory)
        _replace(directory / CI_FILES["junit"], junit.broken(name, reason))
        _replace(
            directory / "summary.md",
            f"## ✗ No verdict: {markdown.escape(name)}\n\n{markdown.escape(reason)}\n",
        )


def read(directory: Path) -> ReportData:
    """Read the data of a run that ``write`` left in ``directory``. Raises OSError, ValueError."""
    return ReportData.model_validate(json.loads((directory / "run.json").read_text()))


def copy_bundle(bundle: Artifact, target: Path) -> None:
    """Copy a bundle out of the store; an older copy is replaced when the new one is whole."""
    fresh = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    shutil.copytree(bundle.directory, fresh)
    if target.exists():
        old = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
        target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old)
    else:
        fresh.rename(target)


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
        **paths,
    }


@contextmanager
def _holding(directory: Path) -> Iterator[None]:
    """Hold a run's folder, made where it is not there, against other processes that write there.

    What a killed one left unfinished is removed.
    """
    with disk.speaking(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with disk.held(directory):
            for path in directory.iterdir():
                if _UNFINISHED.fullmatch(path.name):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            yield


def _drop_bundle(directory: Path) -> None:
    """Remove a bundle that an earlier run left; a folder that is none stays."""
    if (directory / BUNDLE / "manifest.json").is_file():
        shutil.rmtree(directory / BUNDLE)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
