"""The engine: run the steps of a plan, each once per fingerprint, and score their outputs.

This module does not use Prefect: a flow calls ``Run.execute`` once per step.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pydantic_core import to_json

from pipeline.measure import alone, memory
from pipeline.model import sources
from pipeline.recipe.recipe import MODEL
from pipeline.run import choosing, kept, providers, quantized, scoring
from pipeline.run.plan import Plan, Read
from pipeline.run.spent import Spent
from pipeline.stage import Context, Draft, Stage, discovery
from pipeline.store.artifact import (
    MANIFEST,
    MODELS,
    RUN,
    Artifact,
    DataRecord,
    Kind,
    Manifest,
    Metric,
    Parent,
    Source,
    StageRecord,
    list_files,
)
from pipeline.store.lease import Lease
from pipeline.terms.errors import IntegrityError, RarefyError
from pipeline.terms.progress import Progress, silent
from pipeline.terms.versions import distribution_version
from pipeline.verdict.record import LedgerRow

Named = TypeVar("Named", DataRecord, Source)


@dataclass(frozen=True)
class Finished:
    """A step that has run, or whose artifact was found in the store."""

    id: str
    artifact: Artifact
    cached: bool
    seconds: float
    scores: tuple[Metric, ...]
    note: str | None = None
    """That the model has learned nothing, in one sentence without a subject."""

    def row(self, parameters: int | None) -> LedgerRow:
        """Return the step's row of the ledger.

        ``parameters``: the input's parameter count, used if the manifest has none (a bundle has
        as many as its checkpoint).
        """
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
            parameters=manifest.model.get(
                "parameters", parameters if manifest.kind in MODELS else None
            ),
            # A bundle's size is what answering needs, as in the verdict: not its papers.
            size=memory.size(self.artifact.directory)
            if self.artifact.kind is Kind.BUNDLE
            else manifest.size,
            note=self.note,
        )


@dataclass
class Run:
    """The execution of a plan. Creating one costs nothing; ``execute`` does the work."""

    plan: Plan
    finished: dict[str, Finished] = field(default_factory=dict)
    _verified: set[str] = field(default_factory=set)
    scored: bool = True
    """Whether the outputs are scored on the eval split. A sweep chooses without looking at it."""

    @cached_property
    def lease(self) -> Lease:
        """What protects the artifacts that this run uses from ``gc``, while it lives."""
        return self.plan.store.lease()

    def execute(
        self,
        identifier: str,
        progress: Progress = silent,
        waiting: Callable[..., None] = lambda *_: None,
    ) -> Finished:
        """Run one step, or take its artifact from the store, and score the result.

        The step's inputs must be finished. ``waiting`` is called when another process holds the
        lock, for a stage that times with the reason. Raises RarefyError with the step's id if the
        stage fails.
        """
        known = {name: step.artifact for name, step in self.finished.items()}
        read = self.plan.read(identifier)  # once: the fingerprint must describe it
        fingerprint = self.plan.fingerprint(identifier, known, read)
        if fingerprint is None:
            raise RarefyError(f"{identifier}: one of its inputs has not been made yet")
        artifact = self._cached(fingerprint)
        cached = artifact is not None
        if artifact is None:
            with self.plan.store.lock(fingerprint, waiting):
                artifact = self._cached(fingerprint)
                cached = artifact is not None
                if artifact is None:
                    with (
                        self._alone(identifier, waiting),
                        self._kept(identifier, waiting) as folder,
                    ):
                        artifact = self._make(
                            identifier, fingerprint, known, read, progress, folder
                        )
        if artifact.kind is Kind.BUNDLE:
            self.check(artifact)  # its size is read from its files, and the last one is delivered
        if identifier == MODEL:
            self.plan.count_lengths(artifact, self.check, progress)
            if self.plan.task_class.unlabelled:
                self.check(artifact)
                self.plan.own_answers(artifact).keep(progress, waiting)
        scored = scoring.Scored()
        if self.scored:
            scored = scoring.score(self.plan, artifact, self.check, progress, waiting)
        # Of the work alone, in all attempts: not of waiting for the machine or another run.
        seconds = artifact.run_record().get("seconds", 0.0)
        done = Finished(identifier, artifact, cached, seconds, *scored)
        self.finished[identifier] = done
        return done

    def _alone(self, identifier: str, waiting: Callable[..., None]) -> AbstractContextManager[None]:
        """Let a stage that times have the machine for itself."""
        timed = self.plan.stage_of(identifier).timed
        return alone.measuring(waiting) if timed else nullcontext()

    def _kept(
        self, identifier: str, waiting: Callable[..., None]
    ) -> AbstractContextManager[Path | None]:
        """Give a stage that keeps files the folder that its runs share."""
        stage = self.plan.stage_of(identifier)
        return kept.folder(self.plan, stage, waiting) if stage.keeps else nullcontext()

    def _cached(self, fingerprint: str) -> Artifact | None:
        """Return the artifact of finished work, now in use by this run; None if there is none."""
        artifact = self.plan.store.lookup(fingerprint)
        if artifact is None or not self.plan.store.use(artifact.digest, self.lease):
            return None
        return artifact

    def check(self, artifact: Artifact) -> None:
        """Take an artifact into use and verify its files, once per run.

        Raises IntegrityError if one is damaged, or if the artifact was deleted since the plan.
        """
        if artifact.digest in self._verified:
            return
        self.plan.store.bring(artifact.digest)
        if not self.plan.store.use(artifact.digest, self.lease):
            raise IntegrityError(f"artifact {artifact.short} was deleted meanwhile; run again")
        self.plan.store.check(artifact.digest)
        self._verified.add(artifact.digest)

    def _make(
        self,
        identifier: str,
        fingerprint: str,
        known: dict[str, Artifact],
        read: Read,
        progress: Progress,
        folder: Path | None,
    ) -> Artifact:
        stage = self.plan.stage_of(identifier)
        inputs = {name: known[name] for _, name in self.plan.parents(identifier)}
        for artifact in (*inputs.values(), *self.plan.baselines.values()):
            self.check(artifact)
        started = datetime.now(UTC)
        with self.plan.store.draft() as output:
            in_file = not discovery.runs_every_time(type(stage))
            work = self.plan.store.work(fingerprint, resume=in_file)
            resumed = any(work.iterdir())
            spent = Spent(work)
            context = self.context(stage, inputs, work, output, spent.noting(progress), folder)
            with spent.until_it_breaks():
                draft = self._run_stage(identifier, stage, context, known)
            self._check_unchanged(identifier, read)
            manifest = self._manifest(identifier, stage, fingerprint, known, output, draft)
            run = {
                "started": started.isoformat(),
                "ended": datetime.now(UTC).isoformat(),
                "seconds": round(spent.seconds, 3),
                "host": platform.node(),
                "device": self.plan.device,
                "threads": self.plan.threads,
                "resumed": resumed,
                "texts": self.plan.row_lengths.texts,
            }
            lasts = draft.lasts and in_file
            published = self.plan.store.publish(
                output, manifest, run, lasts=lasts, lease=self.lease
            )
        self._verified.add(published.digest)
        return published

    def _check_unchanged(self, identifier: str, read: Read) -> None:
        """Raise RarefyError if the stage's code or a file that it reads changed while it ran.

        Its result would be found again under a fingerprint of bytes that it may not come from.
        """
        now = self.plan.read(identifier)
        if now == read:
            return
        changed = [path for path, digest in read.files.items() if now.files.get(path) != digest]
        what = changed[0] if changed else "its code"
        raise RarefyError(
            f"{identifier}: {what} changed while the stage ran, so its result is not stored; run "
            "again"
        )

    def context(
        self,
        stage: Stage,
        inputs: dict[str, Artifact],
        work: Path,
        output: Path,
        progress: Progress = silent,
        folder: Path | None = None,
    ) -> Context:
        """Return the context of a stage: only what it declares to read.

        Anything else is not in its fingerprint.
        """
        plan = self.plan
        providers.check_device(plan.device, stage)
        names = plan.reads(stage)  # none of the import, before which there are no answers
        splits = (plan.splits if stage.reads_input else plan.rows) if names else {}
        return Context(
            task=plan.task,
            splits={name: splits[name] for name in names},
            seed=plan.seed(stage),
            device=plan.device,
            threads=plan.threads,
            work=work,
            kept=folder,
            output=output,
            artifacts=inputs,
            base=plan.loaded.base,
            asked=plan.asked,
            baselines=plan.baselines,
            progress=progress,
        )

    def _run_stage(
        self, identifier: str, stage: Stage, context: Context, known: dict[str, Artifact]
    ) -> Draft:
        try:
            if identifier == MODEL:
                draft, kinds = (
                    self.plan.importer.bring(self.plan.located, context),
                    self.plan.kinds(),
                )
                choosing.choose(context, kinds[identifier], context.output)
                return draft
            discovery.ready(type(stage))
            model = None
            if stage.reads_input:
                model = context.artifacts[self.plan.loaded.step(identifier).input]
            draft, kinds = stage.run(context, model), self.plan.kinds()  # type: ignore[arg-type]
            _check_draft(draft)
            choosing.choose(context, kinds[identifier], context.output)
            if model is not None:
                draft = quantized.carry(stage, model, context.output, kinds[identifier], draft)
            if kinds[identifier] is Kind.BUNDLE:
                planner = quantized.follow(self.plan.loaded, kinds)[identifier]
                if planner:
                    self.check(known[planner])
                quantized.check_bundle(draft, planner, known)
            return draft
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
                raise RarefyError(
                    f"{identifier}: the file name {name} is reserved for the store; use another"
                )
        for metric in draft.metrics:
            if not math.isfinite(metric.value):
                raise RarefyError(f"{identifier}: {metric.name} is {metric.value}; did it diverge?")
        base, source = self.plan.loaded.base, self.plan.located.source
        records = [self.plan.splits[name].record() for name in self.plan.reads(stage)]
        return Manifest(
            kind=self.plan.kinds()[identifier],
            files=files,
            parents=tuple(
                Parent(digest=known[name].digest, role=role)
                for role, name in self.plan.parents(identifier)
            ),
            stage=StageRecord(
                name=stage.name,
                version=stage.version,
                parameters=sources.portable_values(stage.model_dump(mode="json"), base),
                fingerprint=fingerprint,
            ),
            source=_at(base, source, "reference") if identifier == MODEL else None,
            data=tuple(_at(base, record, "name") for record in records),
            model=draft.model,
            metrics=draft.metrics,
        )

    def ledger(self) -> list[LedgerRow]:
        """Return the rows of all finished steps, in the order in which they ran."""
        rows: list[LedgerRow] = []
        parameters: dict[str, int | None] = {}
        for step in self.finished.values():
            inputs = [p.digest for p in step.artifact.manifest.parents if p.role == "input"]
            rows.append(step.row(next((parameters.get(digest) for digest in inputs), None)))
            parameters[step.artifact.digest] = rows[-1].parameters
        return rows


def _check_draft(draft: object) -> None:
    """Raise an error if a stage returned what no manifest can hold."""
    if not isinstance(draft, Draft):
        raise RarefyError(f"run returned {type(draft).__name__}, not a Draft")
    if not all(isinstance(metric, Metric) for metric in draft.metrics):
        raise RarefyError("the metrics of the Draft are not a tuple of Metric")
    to_json(draft.model)  # which names what is no JSON, such as a number of numpy


def _at(base: Path, record: Named, field: str) -> Named:
    """Return a copy of a manifest's record whose ``field`` holds no path of this machine."""
    name = sources.portable(getattr(record, field), base)
    return record.model_copy(update={field: name})


def default_device() -> str:
    """Return "cuda" if there is a device and torch is built for it; does not import torch."""
    has_device = Path("/dev/nvidiactl").exists()
    return (
        "cuda" if has_device and "+cpu" not in (distribution_version("torch") or "+cpu") else "cpu"
    )
