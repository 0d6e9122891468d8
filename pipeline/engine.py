"""The engine: what a recipe's stages come to, what is cached, and running what is not.

No Prefect here: a flow calls ``Run.execute`` once a step.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline import data, importing, tasks, verdict
from pipeline.artifact import (
    Artifact,
    Kind,
    Manifest,
    Metric,
    Parent,
    StageRecord,
    canonical_json,
    file_sha256,
    list_files,
)
from pipeline.errors import DataError, IntegrityError, ProviderError, RarefyError, RecipeError
from pipeline.recipe import LoadedRecipe, Step
from pipeline.report.data import LedgerRow
from pipeline.stage import Context, Draft, Stage
from pipeline.store import Store

MODEL = "model"
SCORED = (Kind.CHECKPOINT, Kind.ADAPTER, Kind.BUNDLE)
SCORE_VERSION = 1

Progress = Callable[[float, float, str], None]


@dataclass(frozen=True)
class Planned:
    """A step before it runs. ``fingerprint`` is None while an input is not made yet."""

    id: str
    stage: Stage
    kind: Kind
    fingerprint: str | None
    artifact: Artifact | None

    @property
    def cached(self) -> bool:
        return self.artifact is not None


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
class Run:
    """A recipe against a store, on this machine.

    Making one reads the recipe's model config and hashes its data: every error that can be known
    before work is raised by ``plan``.
    """

    loaded: LoadedRecipe
    store: Store
    device: str = "cpu"
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    finished: dict[str, Finished] = field(default_factory=dict)

    # What is known before anything runs

    @cached_property
    def sources(self) -> dict[str, data.Source]:
        """The splits' files and the digests of their bytes."""
        return data.locate(self.loaded.recipe.data, self.loaded.base)

    @cached_property
    def summary(self) -> data.Summary:
        """Labels, row counts and warnings; read from the store when the bytes are known already."""
        key = f"data-{data.digest(self.loaded.recipe.data, self.sources)}"
        known = self.store.note(key)
        if known is not None:
            return data.Summary(**known)
        summary = data.load(self.loaded.recipe.data, self.sources)[1]
        self.store.keep_note(key, vars(summary))
        return summary

    @cached_property
    def located(self) -> importing.Located:
        recipe = self.loaded.recipe
        return importing.locate(recipe.model, self.loaded.base, recipe.allow_pickle)

    @cached_property
    def labels(self) -> list[str]:
        """The labels in the order of the outputs: the model's own where it has just these."""
        own = list(self.located.labels)
        return own if set(own) == set(self.summary.labels) else self.summary.labels

    @cached_property
    def splits(self) -> dict[str, data.Split]:
        """The rows themselves; read only when a stage runs."""
        return data.load(self.loaded.recipe.data, self.sources, self.labels)[0]

    @cached_property
    def task(self) -> tasks.Task:
        recipe = self.loaded.recipe
        made: tasks.Task = tasks.find(recipe.task)(
            labels=tuple(self.labels),
            max_length=recipe.data.max_length,
            text_columns=recipe.data.text_columns,
        )
        return made

    @cached_property
    def importer(self) -> importing.ImportModel:
        return importing.ImportModel.of(self.located)

    def plan(self) -> list[Planned]:
        """Return every step with its kind and, where it is done already, its artifact.

        Raises RecipeError for an order of stages that cannot work and for budgets that cannot be
        judged; DataError and ModelError for what the recipe names.
        """
        self._check_budgets()
        kinds = self._kinds()
        known: dict[str, Artifact] = {}
        planned = []
        for identifier in (MODEL, *(step.id for step in self.loaded.steps)):
            stage = self._stage(identifier)
            fingerprint = self._fingerprint(identifier, known)
            artifact = self.store.lookup(fingerprint) if fingerprint else None
            if artifact:
                known[identifier] = artifact
            planned.append(Planned(identifier, stage, kinds[identifier], fingerprint, artifact))
        return planned

    def _kinds(self) -> dict[str, Kind]:
        """Follow the kinds along the chain. Raises RecipeError where they do not fit."""
        kinds = {MODEL: self.located.kind(self.summary.labels)}
        for step in self.loaded.steps:
            given, stage = kinds[step.input], step.stage
            if given not in stage.consumes:
                wanted = " or ".join(sorted(_a(kind) for kind in stage.consumes))
                raise self.loaded.error(
                    step,
                    f"takes {wanted}, but {step.input!r} gives {_a(given)}{_mend(given, stage)}",
                )
            kinds[step.id] = stage.produces or given
        return kinds

    def _check_budgets(self) -> None:
        recipe = self.loaded.recipe
        problems = verdict.check(recipe.budgets)
        if problems:
            raise RecipeError(f"{self.loaded.path}: {problems[0]}")
        if recipe.budgets and all(step.stage.produces != Kind.REPORT for step in self.loaded.steps):
            raise RecipeError(
                f"{self.loaded.path}: there are budgets, but no 'validate' stage measures them"
            )

    # Fingerprints

    def _stage(self, identifier: str) -> Stage:
        return self.importer if identifier == MODEL else self.loaded.step(identifier).stage

    def _parents(self, identifier: str) -> dict[str, str]:
        """Return step id -> role for all the artifacts that a step is made from."""
        if identifier == MODEL:
            return {}
        step = self.loaded.step(identifier)
        parents = {name: role for role, name in step.stage.references().items()}
        if step.stage.sees_ancestors:
            parents |= dict.fromkeys(self.ancestors(step), "reference")
        return parents | {step.input: "input"}

    def ancestors(self, step: Step) -> list[str]:
        """Return the ids of all steps before this one on its chain, first to last."""
        chain: list[str] = []
        current = step.input
        while current != MODEL:
            chain.append(current)
            current = self.loaded.step(current).input
        return chain[::-1]

    def _fingerprint(self, identifier: str, known: dict[str, Artifact]) -> str | None:
        """Return the sha256 of all that a step's output depends on; None if an input is missing."""
        stage = self._stage(identifier)
        parents = self._parents(identifier)
        if any(name not in known for name in parents):
            return None
        recipe = self.loaded.recipe
        reads = sorted(name for name in stage.reads if name in self.sources)
        value = {
            "stage": [stage.name, stage.version],
            "parameters": stage.model_dump(mode="json"),
            "parents": {role: known[name].digest for name, role in parents.items()}
            if not stage.sees_ancestors
            else {name: known[name].digest for name in parents},
            "data": {name: self.sources[name].sha256 for name in reads},
            "reading": recipe.data.model_dump(include={"text", "label", "max_length"}, mode="json"),
            "labels": self.labels if reads else [],
            "task": recipe.task,
            "files": [file_sha256(path) for path in stage.files(self.loaded.base)],
            "seed": recipe.seed,
            "libraries": {name: _version(name) for name in stage.libraries},
            "device": self.device,
            "environment": stage.environment(recipe.targets),
        }
        return hashlib.sha256(canonical_json(value)).hexdigest()

    # Running

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
        fingerprint = self._fingerprint(identifier, known)
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
        scores = self._score(artifact, progress)
        seconds = (
            artifact.run_record().get("seconds", 0.0) if cached else time.perf_counter() - started
        )
        self.finished[identifier] = Finished(identifier, artifact, cached, seconds, scores)
        return self.finished[identifier]

    def _make(
        self, identifier: str, fingerprint: str, known: dict[str, Artifact], progress: Progress
    ) -> Artifact:
        stage, parents = self._stage(identifier), self._parents(identifier)
        for name in parents:
            if problems := self.store.verify(known[name].digest):
                raise IntegrityError(
                    f"{identifier}: its input {name!r} is damaged: {problems[0]}; "
                    "`rarefy artifact gc --damaged --yes` removes it, the next run makes it again"
                )
        started, began = datetime.now(UTC), time.perf_counter()
        with self.store.draft() as output:
            context = self._context(fingerprint, output, known, progress)
            draft = self._run_stage(identifier, stage, context, known)
            manifest = self._manifest(identifier, stage, fingerprint, known, output, draft)
            run = {
                "started": started.isoformat(),
                "seconds": round(time.perf_counter() - began, 3),
                "host": platform.node(),
                "device": self.device,
                "threads": self.threads,
            }
            return self.store.publish(output, manifest, run)

    def _context(
        self, fingerprint: str, output: Path, known: dict[str, Artifact], progress: Progress
    ) -> Context:
        _check_device(self.device)
        return Context(
            task=self.task,
            splits=self.splits,
            seed=self.loaded.recipe.seed,
            device=self.device,
            threads=self.threads,
            work=self.store.work(fingerprint),
            output=output,
            artifacts=dict(known),
            targets=self.loaded.recipe.targets,
            base=self.loaded.base,
            progress=progress,
        )

    def _run_stage(
        self, identifier: str, stage: Stage, context: Context, known: dict[str, Artifact]
    ) -> Draft:
        try:
            if identifier == MODEL:
                return self.importer.copy(self.located, context)
            source = self.loaded.step(identifier).input
            return stage.run(context, known[source])
        except RarefyError as error:
            if not str(error).startswith(f"{identifier}:"):
                error.args = (f"{identifier}: {error}",)
            raise

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
        reads = sorted(name for name in stage.reads if name in self.sources)
        return Manifest(
            kind=self._kinds()[identifier],
            files=files,
            parents=tuple(
                Parent(digest=known[name].digest, role=role)
                for name, role in self._parents(identifier).items()
            ),
            stage=StageRecord(
                name=stage.name,
                version=stage.version,
                parameters=stage.model_dump(mode="json"),
                fingerprint=fingerprint,
            ),
            source=self.located.source if identifier == MODEL else None,
            data=tuple(self.splits[name].record() for name in reads),
            model=draft.model,
            metrics=draft.metrics,
        )

    # Scores

    def _score(self, artifact: Artifact, progress: Progress) -> tuple[Metric, ...]:
        """Return the metrics of an artifact on the eval split, measured once for these bytes."""
        if artifact.kind not in SCORED:
            return ()
        value = {
            "version": SCORE_VERSION,
            "artifact": artifact.digest,
            "eval": self.sources["eval"].sha256,
            "reading": self.loaded.recipe.data.model_dump(
                include={"text", "label", "max_length"}, mode="json"
            ),
            "labels": self.labels,
            "libraries": {
                name: _version(name) for name in ("torch", "transformers", "onnxruntime")
            },
        }
        key = f"score-{hashlib.sha256(canonical_json(value)).hexdigest()}"
        known = self.store.note(key)
        if known is None:
            known = self._measure(artifact, progress)
            self.store.keep_note(key, known)
        return tuple(Metric(**metric) for metric in known["metrics"])

    def _measure(self, artifact: Artifact, progress: Progress) -> dict[str, Any]:
        from pipeline.measure import accuracy

        split = self.splits["eval"]
        if split.labels is None:
            raise DataError(f"{split.reference}: the eval split needs labels")
        if artifact.kind is Kind.BUNDLE:
            target = self.loaded.recipe.targets[0]
            probabilities = accuracy.bundle_probabilities(
                artifact.directory,
                split,
                provider=target.provider,
                threads=target.threads,
                progress=progress,
            )
        else:
            probabilities = accuracy.checkpoint_probabilities(
                artifact.directory, self.task, split, progress, self.device
            )
        found = accuracy.metrics(
            self.task, probabilities, split.labels, "eval", self.loaded.recipe.seed
        )
        return {
            "metrics": [metric.model_dump() for metric in found],
            "probabilities": accuracy.as_table(probabilities),
        }

    def ledger(self) -> list[LedgerRow]:
        """Return the rows of all finished steps, in order."""
        rows: list[LedgerRow] = []
        for step in self.finished.values():
            rows.append(step.row(rows[-1].parameters if rows else None))
        return rows


def _version(distribution: str) -> str | None:
    """Return a distribution's version; ONNX Runtime comes under two names."""
    for name in (distribution, f"{distribution}-gpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def default_device() -> str:
    """Return "cuda" where there is a device and a torch built for it; torch is not loaded."""
    has_device = Path("/dev/nvidiactl").exists()
    return "cuda" if has_device and "+cpu" not in (_version("torch") or "+cpu") else "cpu"


def _check_device(device: str) -> None:
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ProviderError("device cuda: torch finds no CUDA device; use --device cpu")


def _a(kind: Kind) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _mend(given: Kind, stage: Stage) -> str:
    """Say what usually mends a wrong order."""
    if given is Kind.ADAPTER:
        return "; put 'merge' between them"
    if stage.consumes == {Kind.ADAPTER}:
        return "; put 'adapt' before it"
    if given is Kind.ENCODER:
        return "; put 'finetune' before it"
    if stage.consumes == {Kind.BUNDLE}:
        return "; put 'export' before it"
    return "; give it another input with 'from'"
