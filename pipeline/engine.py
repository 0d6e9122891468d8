"""The engine: runs the steps of a plan, each once for its fingerprint, and scores what they made.

No Prefect here: a flow calls ``Run.execute`` once a step.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pipeline import lengths, scoring
from pipeline.artifact import (
    MANIFEST,
    RUN,
    Artifact,
    Manifest,
    Metric,
    Parent,
    StageRecord,
    list_files,
)
from pipeline.errors import IntegrityError, ProviderError, RarefyError
from pipeline.planning import MODEL, Plan, Planned
from pipeline.report.data import LedgerRow
from pipeline.stage import Context, Draft, Stage
from pipeline.store import REMEDY
from pipeline.versions import distribution_version

__all__ = ["MODEL", "Finished", "Planned", "Run", "default_device"]

Progress = Callable[[float, float, str], None]


@dataclass(frozen=True)
class Finished:
    """A step after it ran, or after its artifact was found."""

    id: str
    artifact: Artifact
    cached: bool
    seconds: float
    scores: tuple[Metric, ...]

    def row(self, parameters: int | None) -> LedgerRow:
        """Return the ledger's row; a bundle has as many parameters as its checkpoint."""
        manifest = self.artifact.manifest
        main = self.scores[0] if self.scores else None
        return LedgerRow(
            id=self.id,
            stage=manifest.stage.name,
            kind=manifest.kind,
            digest=self.artifact.digest,
            cached=self.cached,
            seconds=self.seconds,
            metric=main.name if main else None,
            accuracy=(main.value, main.low or 0.0, main.high or 0.0) if main else None,
            rows=main.n if main else None,
            parameters=manifest.model.get("parameters", parameters),
            size=manifest.size,
        )


@dataclass
class Run(Plan):
    """A plan and the steps that ran. Making one costs nothing; ``execute`` works."""

    finished: dict[str, Finished] = field(default_factory=dict)
    _whole: set[str] = field(default_factory=set)

    def execute(
        self,
        identifier: str,
        progress: Progress = lambda done, total, note: None,
        waiting: Callable[[], None] = lambda: None,
    ) -> Finished:
        """Run one step, or find it done; its inputs must be finished. Scores the result.

        Raises RarefyError with the step's id where the stage fails.
        """
        known = {name: step.artifact for name, step in self.finished.items()}
        fingerprint = self.fingerprint(identifier, known)
        if fingerprint is None:
            raise RarefyError(f"{identifier}: an input is not made yet")
        started = time.perf_counter()
        artifact = self.store.lookup(fingerprint)
        cached = artifact is not None
        if artifact is None:
            with self.store.lock(fingerprint, waiting):
                artifact = self.store.lookup(fingerprint)
                cached = artifact is not None
                if artifact is None:
                    artifact = self._make(identifier, fingerprint, known, progress)
        if identifier == MODEL:
            lengths.count(self, artifact, progress)
        scores = scoring.score(self, artifact, progress, waiting)
        seconds = (
            artifact.run_record().get("seconds", 0.0) if cached else time.perf_counter() - started
        )
        self.finished[identifier] = Finished(identifier, artifact, cached, seconds, scores)
        return self.finished[identifier]

    def check(self, artifact: Artifact) -> None:
        """Hash an artifact's files, once in a run. Raises IntegrityError where they are damaged."""
        if artifact.digest in self._whole:
            return
        if problems := self.store.verify(artifact.digest):
            made = artifact.manifest.stage.name
            raise IntegrityError(
                f"artifact {artifact.short} ({made}) is damaged: {problems[0]}; {REMEDY}"
            )
        self._whole.add(artifact.digest)

    def _make(
        self, identifier: str, fingerprint: str, known: dict[str, Artifact], progress: Progress
    ) -> Artifact:
        stage = self.stage_of(identifier)
        inputs = {name: known[name] for _, name in self.parents(identifier)}
        for artifact in (*inputs.values(), *self.baselines.values()):
            self.check(artifact)
        started, began = datetime.now(UTC), time.perf_counter()
        with self.store.draft() as output:
            context = self._context(stage, fingerprint, output, inputs, progress)
            draft = self._run_stage(identifier, stage, context)
            manifest = self._manifest(identifier, stage, fingerprint, known, output, draft)
            run = {
                "started": started.isoformat(),
                "seconds": round(time.perf_counter() - began, 3),
                "host": platform.node(),
                "device": self.device,
                "threads": self.threads,
            }
            published = self.store.publish(output, manifest, run, lasts=draft.lasts)
        self._whole.add(published.digest)
        return published

    def _context(
        self,
        stage: Stage,
        fingerprint: str,
        output: Path,
        inputs: dict[str, Artifact],
        progress: Progress,
    ) -> Context:
        """Give a stage what it said it reads, and no more: all else is not in its fingerprint."""
        _check_device(self.device)
        return Context(
            task=self.task,
            splits={name: self.splits[name] for name in self.reads(stage)},
            seed=self.loaded.recipe.seed,
            device=self.device,
            threads=self.threads,
            work=self.store.work(fingerprint),
            output=output,
            artifacts=inputs,
            base=self.loaded.base,
            asked=self.asked,
            baselines=self.baselines,
            progress=progress,
        )

    def _run_stage(self, identifier: str, stage: Stage, context: Context) -> Draft:
        try:
            if identifier == MODEL:
                return self.importer.bring(self.located, context)
            return stage.run(context, context.artifacts[self.loaded.step(identifier).input])
        except RarefyError as error:
            if not str(error).startswith(f"{identifier}:"):
                error.args = (f"{identifier}: {error}",)
            raise
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), "no reason given")
            raise RarefyError(f"{identifier}: {type(error).__name__}: {reason}") from error

    def _manifest(
        self,
        identifier: str,
        stage: Stage,
        fingerprint: str,
        known: dict[str, Artifact],
        output: Path,
        draft: Draft,
    ) -> Manifest:
        files = list_files(output, draft.roles)
        if not files:
            raise RarefyError(f"{identifier}: the stage {stage.name!r} wrote no file")
        for name in (MANIFEST, RUN):
            if (output / name).exists():
                raise RarefyError(f"{identifier}: {name} is the store's; name the file otherwise")
        for metric in draft.metrics:
            if not math.isfinite(metric.value):
                raise RarefyError(f"{identifier}: {metric.name} is {metric.value}; did it diverge?")
        return Manifest(
            kind=self.kinds()[identifier],
            files=files,
            parents=tuple(
                Parent(digest=known[name].digest, role=role)
                for role, name in self.parents(identifier)
            ),
            stage=StageRecord(
                name=stage.name,
                version=stage.version,
                parameters=stage.model_dump(mode="json"),
                fingerprint=fingerprint,
            ),
            source=self.located.source if identifier == MODEL else None,
            data=tuple(self.splits[name].record() for name in self.reads(stage)),
            model=draft.model,
            metrics=draft.metrics,
        )

    def ledger(self) -> list[LedgerRow]:
        """Return the rows of all finished steps, in order."""
        rows: list[LedgerRow] = []
        parameters: dict[str, int | None] = {}
        for step in self.finished.values():
            inputs = [p.digest for p in step.artifact.manifest.parents if p.role == "input"]
            rows.append(step.row(next((parameters.get(digest) for digest in inputs), None)))
            parameters[step.artifact.digest] = rows[-1].parameters
        return rows


def default_device() -> str:
    """Return "cuda" where there is a device and a torch built for it; torch is not loaded."""
    has_device = Path("/dev/nvidiactl").exists()
    return (
        "cuda" if has_device and "+cpu" not in (distribution_version("torch") or "+cpu") else "cpu"
    )


def _check_device(device: str) -> None:
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ProviderError("device cuda: torch finds no CUDA device; use --device cpu")
