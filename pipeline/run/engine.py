"""The engine: run the steps of a plan, each once per fingerprint, and score their outputs.

This module does not use Prefect: a flow calls ``Run.execute`` once per step.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final, TypeVar

from pydantic_core import to_json

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure import exclusive
from rarefy.pipeline.measure.measurements import Latency, Measurements
from rarefy.pipeline.measure.memory import memory
from rarefy.pipeline.measure.rows_per_second import Throughput
from rarefy.pipeline.recipe.recipe import MODEL
from rarefy.pipeline.run import checks, decisions, estimate, quantization, scoring
from rarefy.pipeline.run.plan import check_chain
from rarefy.pipeline.run.plan.plan import Plan, Read
from rarefy.pipeline.sources import references
from rarefy.pipeline.stage import Context, Draft, Stage, discovery
from rarefy.pipeline.store import disk
from rarefy.pipeline.store.artifact import (
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
from rarefy.pipeline.store.store import Lease
from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.digests import distribution_version, value_sha256, versions
from rarefy.pipeline.terms.errors import IntegrityError, RarefyError
from rarefy.pipeline.terms.progress import Progress, silent
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.pipeline.verdict.record import LedgerRow

Named = TypeVar("Named", DataRecord, Source)

TIME_FILE: Final = "spent.json"
"""The file in a stage's work folder that has the seconds of the attempts before."""
NOTE_EVERY: Final = 10.0
"""Seconds between two notes: of an attempt that is killed, so much may be missing."""


class WorkClock:
    """Seconds that a stage has worked, attempts that were killed included.

    They are noted in the stage's work folder as it reports progress.
    """

    def __init__(self, work: Path) -> None:
        self._path = work / TIME_FILE
        self._before = self._read()
        self._began = time.perf_counter()
        self._noted = self._began

    @property
    def seconds(self) -> float:
        """Seconds of this attempt and of those before it."""
        return self._before + time.perf_counter() - self._began

    def noting(self, progress: Progress) -> Progress:
        """Return a progress that also notes the time."""

        def report(done: float, total: float, note: str) -> None:
            progress(done, total, note)
            if time.perf_counter() - self._noted >= NOTE_EVERY:
                self._note()

        return report

    @contextmanager
    def until_it_breaks(self) -> Iterator[None]:
        """Note the time if what is done in this context raises."""
        try:
            yield
        except BaseException:
            self._note()
            raise

    def _note(self) -> None:
        self._noted = time.perf_counter()
        disk.write(self._path, {"seconds": round(self.seconds, 3)})

    def _read(self) -> float:
        try:
            return float(json_text.ours(self._path, dict[str, float])["seconds"])
        except (OSError, RarefyError, KeyError):
            return 0.0


@contextmanager
def shared_folder(
    plan: Plan, stage: Stage, waiting: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """Yield the folder that runs of a stage share, whatever its parameters and the budgets are.

    It is held alone, and stays until ``gc`` deletes it as old work. It is another one for another
    task, way to read rows, or version of code and libraries. So a file that the stage makes of an
    artifact there depends on that artifact alone.

    Args:
        plan: the plan of the run.
        stage: the stage, which ``keeps`` files.
        waiting: called when another run holds the folder.
    """
    value = {
        "version": stage.version,
        "source": discovery.source_digests(type(stage)),
        "rarefy": distribution_version("rarefy"),
        "libraries": versions(stage.libraries),
        "task": [plan.loaded.recipe.task, *plan.task_code],
        "labels": plan.labels,
        "reading": plan.reading,
    }
    name = f"{stage.name}-{value_sha256(value)}"
    with plan.store.lock(name, waiting):
        yield plan.store.work(name, resume=not discovery.runs_every_time(type(stage)))


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
        if manifest.kind not in MODELS:
            parameters = None
        size = manifest.size
        if manifest.kind is Kind.BUNDLE:  # what answering needs, as in the verdict: not its papers
            size = memory.size(self.artifact.directory)
        row = LedgerRow(
            id=self.id,
            stage=manifest.stage.name,
            kind=manifest.kind,
            digest=self.artifact.digest,
            cached=self.cached,
            seconds=self.seconds,
            metric=None,
            accuracy=None,
            rows=None,
            parameters=manifest.model.get("parameters", parameters),
            size=size,
            note=self.note,
        )
        if not self.scores:
            return row
        main = self.scores[0]
        interval = (main.value, main.low or 0.0, main.high or 0.0)
        score = {"metric": main.name, "accuracy": interval, "rows": main.n}
        return row.model_copy(update=score)


@dataclass(frozen=True)
class Work:
    """A step that has to run: its fingerprint, all earlier artifacts by id, and what it reads."""

    identifier: str
    fingerprint: str
    inputs: dict[str, Artifact]
    read: Read


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
        inputs = {name: step.artifact for name, step in self.finished.items()}
        read = self.plan.read(identifier)  # once: the fingerprint must describe it
        fingerprint = self.plan.fingerprint(identifier, inputs, read)
        if fingerprint is None:
            raise RarefyError(f"{identifier}: one of its inputs has not been made yet")
        artifact = self._cached(fingerprint)
        cached = artifact is not None
        if artifact is None:
            with self.plan.store.lock(fingerprint, waiting):
                artifact = self._cached(fingerprint)  # another run may have made it meanwhile
                cached = artifact is not None
                if artifact is None:
                    work = Work(identifier, fingerprint, inputs, read)
                    artifact = self._make_alone(work, progress, waiting)
        if artifact.kind is Kind.BUNDLE:
            self.check(artifact)  # its size is read from its files, and the last one is delivered
        if identifier == MODEL:
            self._ask_model(artifact, progress, waiting)
        scored = scoring.Scored()
        if self.scored:
            scored = scoring.score(self.plan, artifact, self.check, progress, waiting)
        # Of the work alone, in all attempts: not of waiting for the machine or another run.
        seconds = artifact.run_record().get("seconds", 0.0)
        finished = Finished(identifier, artifact, cached, seconds, *scored)
        self.finished[identifier] = finished
        return finished

    def _make_alone(self, work: Work, progress: Progress, waiting: Callable[..., None]) -> Artifact:
        """Make a step's artifact while this run holds whatever the stage must not share."""
        identifier = work.identifier
        with (
            self._alone(identifier, waiting),
            self._kept(identifier, waiting) as folder,
        ):
            return self._make(work, progress, folder)

    def _ask_model(self, model: Artifact, progress: Progress, waiting: Callable[..., None]) -> None:
        """Count the tokens of the rows, and let the recipe's model label rows without labels."""
        self.plan.count_lengths(model, self.check, progress)
        if self.plan.unbound_task.unlabelled:
            self.check(model)
            self.plan.own_answers(model).keep(progress, waiting)

    def _alone(self, identifier: str, waiting: Callable[..., None]) -> AbstractContextManager[None]:
        """Let a stage that times have the machine for itself."""
        stage = self.plan.stage_of(identifier)
        if not stage.policy.timed:
            return nullcontext()
        return exclusive.measuring(waiting)

    def _kept(
        self, identifier: str, waiting: Callable[..., None]
    ) -> AbstractContextManager[Path | None]:
        """Give a stage that keeps files the folder that its runs share."""
        stage = self.plan.stage_of(identifier)
        if not stage.policy.keeps_files:
            return nullcontext()
        return shared_folder(self.plan, stage, waiting)

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

    def _make(self, work: Work, progress: Progress, folder: Path | None) -> Artifact:
        """Run a step's stage and publish what it wrote."""
        identifier, plan = work.identifier, self.plan
        stage = plan.stage_of(identifier)
        inputs = {name: work.inputs[name] for _, name in plan.parents(identifier)}
        for artifact in (*inputs.values(), *plan.baselines.values()):
            self.check(artifact)
        started = datetime.now(UTC)
        with plan.store.draft() as output:
            in_file = not discovery.runs_every_time(type(stage))
            directory = plan.store.work(work.fingerprint, resume=in_file)
            resumed = any(directory.iterdir())
            clock = WorkClock(directory)
            noting = clock.noting(progress)
            context = self.context(stage, inputs, directory, output, noting, folder)
            meter = memory.PeakMeter()
            with clock.until_it_breaks():
                draft = self.run_stage(identifier, stage, context, work.inputs)
            seconds, peak = round(clock.seconds, 3), meter.read()
            self._check_unchanged(identifier, work.read)
            manifest = self._manifest(work, stage, output, draft)
            run = {
                "started": started.isoformat(),
                "ended": plan.store.now().isoformat(),
                "seconds": seconds,
                "memory": peak,
                "host": platform.node(),
                "device": plan.device,
                "threads": plan.threads,
                "resumed": resumed,
            }
            if context.curves:
                curves = {name: curve.model_dump() for name, curve in context.curves.items()}
                run["curves"] = curves
            lasts = draft.lasts and in_file
            published = plan.store.publish(output, manifest, run, lasts=lasts, lease=self.lease)
        dependencies = plan.dependencies(identifier, work.inputs, work.read)
        estimate.keep_run(plan, identifier, seconds, peak, dependencies, lasts=draft.lasts)
        self._verified.add(published.digest)
        return published

    def _check_unchanged(self, identifier: str, read: Read) -> None:
        """Raise RarefyError if the stage's code or a file that it reads changed while it ran.

        Its result would be found again under a fingerprint of bytes that it may not come from.
        """
        now = self.plan.read(identifier)
        if now == read:
            return
        source: Path | str = "its code"
        for path, digest in read.files.items():
            if now.files.get(path) != digest:
                source = path
                break
        raise RarefyError(
            f"{identifier}: {source} changed while the stage ran, so its result is not stored; run "
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
        checks.check_device(plan.device, stage)
        splits: dict[str, Split] = {}
        for name in plan.reads(stage):  # none of the import, before which there are no answers
            rows = plan.splits if stage.policy.reads_input else plan.rows
            splits[name] = rows[name]
        return Context(
            task=plan.task,
            splits=splits,
            seed=plan.seed(stage),
            device=plan.device,
            threads=plan.threads,
            work=work,
            shared=folder,
            output=output,
            artifacts=inputs,
            base=plan.loaded.base,
            requirements=plan.requirements,
            baselines=plan.baselines,
            progress=progress,
            stopping_rule=self._stopping_rule,
            throughput_rule=self._throughput_rule,
        )

    def _stopping_rule(
        self, target: Target, measurements: Measurements
    ) -> Callable[[Latency], bool] | None:
        from rarefy.pipeline.verdict import judge  # only what is timed needs it

        return judge.stopping_rule(self.plan.requirements.budgets, target, measurements)

    def _throughput_rule(
        self, target: Target, measurements: Measurements
    ) -> Callable[[Throughput], bool] | None:
        from rarefy.pipeline.verdict import judge

        return judge.throughput_rule(self.plan.requirements.budgets, target, measurements)

    def run_stage(
        self, identifier: str, stage: Stage, context: Context, inputs: dict[str, Artifact]
    ) -> Draft:
        """Run a stage and check what it wrote; every error names the step.

        Args:
            identifier: the step's id.
            stage: its stage.
            context: what the stage receives.
            inputs: the artifacts of all earlier steps, by id.

        Raises:
            RarefyError: the stage fails, or breaks its contract.
        """
        try:
            kind = self.plan.kinds()[identifier]
            if identifier == MODEL:
                draft = self.plan.importer.bring(self.plan.located, context)
                decisions.choose(context, kind, context.output)
                return draft
            discovery.ready(type(stage))
            model = None
            if stage.policy.reads_input:
                model = context.artifacts[self.plan.loaded.step(identifier).input]
            draft = stage.run(context, model)  # type: ignore[arg-type]
            _check_draft(draft)
            decisions.choose(context, kind, context.output)
            if model is not None:
                draft = quantization.carry(stage, model, context.output, kind, draft)
            if kind is Kind.BUNDLE:
                self._check_precision(identifier, draft, inputs)
            return draft
        except RarefyError as error:
            if not str(error).startswith(f"{identifier}:"):
                error.args = (f"{identifier}: {error}",)
            raise
        except Exception as error:
            lines = str(error).strip().splitlines()
            reason = lines[0] if lines else "no reason given"
            raise RarefyError(f"{identifier}: {type(error).__name__}: {reason}") from error

    def _check_precision(self, identifier: str, draft: Draft, inputs: dict[str, Artifact]) -> None:
        """Raise ModelError if a bundle's precision is not that of the recipe's last plan."""
        plan = self.plan
        planner = check_chain.follow_plans(plan.loaded, plan.kinds())[identifier]
        if planner:
            self.check(inputs[planner])
        quantization.check_bundle(draft, planner, inputs)

    def _manifest(self, work: Work, stage: Stage, output: Path, draft: Draft) -> Manifest:
        """Return the manifest of what a stage wrote.

        Raises RarefyError if it wrote no file, one with a reserved name, or a metric that is no
        finite number.
        """
        identifier, plan = work.identifier, self.plan
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
        base = plan.loaded.base
        parents = []
        for role, name in plan.parents(identifier):
            parents.append(Parent(digest=work.inputs[name].digest, role=role))
        record = StageRecord(
            name=stage.name,
            version=stage.version,
            parameters=references.portable_values(stage.model_dump(mode="json"), base),
            fingerprint=work.fingerprint,
        )
        source = None
        if identifier == MODEL:
            source = _at(base, plan.located.source, "reference")
        data = []
        for name in plan.reads(stage):
            split = plan.splits[name]
            data.append(_at(base, split.record(), "name"))
        return Manifest(
            kind=plan.kinds()[identifier],
            files=files,
            parents=tuple(parents),
            stage=record,
            source=source,
            data=tuple(data),
            model=draft.model,
            metrics=draft.metrics,
        )

    def ledger(self) -> list[LedgerRow]:
        """Return the rows of all finished steps, in the order in which they ran."""
        rows: list[LedgerRow] = []
        parameters: dict[str, int | None] = {}
        for step in self.finished.values():
            count = None
            for parent in step.artifact.manifest.parents:
                if parent.role == "input":
                    count = parameters.get(parent.digest)
            row = step.row(count)
            rows.append(row)
            parameters[step.artifact.digest] = row.parameters
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
    name = references.portable(getattr(record, field), base)
    return record.model_copy(update={field: name})
