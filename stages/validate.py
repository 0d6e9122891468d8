"""Validate: measure the bundle beside the checkpoints that it came from."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from pipeline.artifact import Artifact, Kind, Metric
from pipeline.errors import DataError, RecipeError
from pipeline.measure import machine
from pipeline.measure.measurements import CANDIDATE, Latency, Measurements, ModelMeasurement
from pipeline.recipe import Name, Target
from pipeline.stage import Context, Draft, Stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.data import Split

MEASUREMENTS = "measurements.json"
DISAGREEMENTS = 40
PERCENTILES = (50, 90, 95, 99)
PLAN = "quantization.json"
IMPORTED = "model"
"""The engine's id of what the recipe started from."""

Progress = Callable[[float, float, str], None]


class Validate(Stage):
    """Measure the bundle and its references: answers, latency, memory, size. Judged by budgets.

    The references are earlier checkpoints in fp32 ONNX Runtime with its own fusions: what one would
    deploy without compression, so that a speed-up is not that of the runtime. Latencies are taken
    row by row beside each other, in random order, in several fresh processes (Georges et al. 2007,
    "Statistically rigorous Java performance evaluation"); one model is timed against itself, which
    tells the noise of the session. The machine's fingerprint belongs to the result.
    """

    name: ClassVar[str] = "validate"
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.BUNDLE})
    produces: ClassVar[Kind | None] = Kind.REPORT
    reads: ClassVar[frozenset[str]] = frozenset({"eval"})
    libraries: ClassVar[tuple[str, ...]] = (
        "onnxruntime",
        "onnx",
        "torch",
        "transformers",
        "tokenizers",
    )
    sees_ancestors: ClassVar[bool] = True

    models: tuple[Name, ...] | Literal["all"] = Field(
        "all", description="ids of the checkpoints to compare with; all that the bundle came from"
    )
    processes: int = Field(3, ge=1, le=100, description="fresh processes that time, one by one")
    seconds: float = Field(45, gt=0, le=3600, description="for the latency of each target")
    rows: int = Field(200, ge=1, description="rows of the eval split that are timed")
    memory: bool = Field(True, description="measure the peak memory of each model")

    def references(self) -> dict[str, str]:
        """Return the checkpoints named by ``models``."""
        names = () if self.models == "all" else self.models
        return {f"reference:{name}": name for name in names}

    def environment(self, context_targets: tuple[Target, ...]) -> dict[str, Any]:
        """Return the machine's fingerprint and the targets: elsewhere the numbers are others."""
        targets = [target.model_dump(mode="json") for target in context_targets]
        return {"machine": machine.fingerprint(), "targets": targets}

    def run(self, context: Context, model: Artifact) -> Draft:
        """Export the references, measure everything, and write ``measurements.json``."""
        split = context.split("eval")
        if split.labels is None:
            raise DataError(f"{split.reference}: validate needs labels in the eval split")
        chosen, aliases = self._chosen(context, model)
        providers = dict.fromkeys(target.provider for target in context.targets)
        parts = len(chosen) * len(providers) + 2 * (len(chosen) + 1) + len(context.targets)
        steps = _Steps(context.progress, parts)
        built = {
            provider: self._build(context, chosen, provider, split, steps) for provider in providers
        }
        first = context.targets[0]
        artifacts = {CANDIDATE: model, **chosen}
        directories = {CANDIDATE: model.directory, **built[first.provider]}
        models = {
            name: self._measure(context, artifacts[name], directories[name], steps)
            for name in directories
        }
        latency = {
            target.name: self._time(
                {CANDIDATE: model.directory, **built[target.provider]},
                target,
                split,
                context,
                steps,
            )
            for target in context.targets
        }
        measurements = Measurements(
            machine=machine.fingerprint(),
            task=context.task.name,
            labels=list(context.task.labels),
            truth=split.labels,
            models=models,
            aliases=aliases,
            latency=latency,
            samples=_disagreements(context.task.labels, split, models),
        )
        text = measurements.model_dump_json(by_alias=True)
        (context.output / MEASUREMENTS).write_text(text, encoding="utf-8")
        return Draft({MEASUREMENTS: "measurements"}, metrics=_metrics(context, measurements))

    def _chosen(
        self, context: Context, model: Artifact
    ) -> tuple[dict[str, Artifact], dict[str, str]]:
        """Return the references by id, first to last, and the ids that repeat one's weights.

        Raises RecipeError where ``models`` names what is no checkpoint.
        """
        if self.models == "all":
            family = _ancestors(context, model)
            found = {n: a for n, a in family.items() if a.kind is Kind.CHECKPOINT}
        else:
            found = {name: context.artifacts[name] for name in self.models}
        for name, artifact in found.items():
            if artifact.kind is not Kind.CHECKPOINT:
                raise RecipeError(f"models: {name!r} is of kind {artifact.kind}, not a checkpoint")
            if name == CANDIDATE:
                raise RecipeError(f"models: {name!r} is the bundle's own name; rename that stage")
        chosen: dict[str, Artifact] = {}
        aliases: dict[str, str] = {}
        names: dict[frozenset[tuple[str, str]], str] = {}
        for name, artifact in found.items():
            same = names.setdefault(_weights(artifact), name)
            if same == name:
                chosen[name] = artifact
            else:
                aliases[name] = same
        return chosen, aliases

    def _build(
        self,
        context: Context,
        chosen: Mapping[str, Artifact],
        provider: str,
        split: Split,
        steps: _Steps,
    ) -> dict[str, Path]:
        """Export each reference; one that a killed run left whole is taken as it is."""
        from exporters.build import build

        built = {}
        for name, artifact in chosen.items():
            told = steps.next(f"exporting {name} as a reference")
            final = context.work / "references" / provider / artifact.digest
            if not final.exists():
                partial = final.with_suffix(".partial")
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                build(
                    artifact.directory,
                    partial,
                    task=context.task,
                    split=split,
                    form="reference",
                    target_provider=provider,
                    progress=told,
                )
                partial.rename(final)
            built[name] = final
        return built

    def _measure(
        self,
        context: Context,
        artifact: Artifact,
        directory: Path,
        steps: _Steps,
    ) -> ModelMeasurement:
        """Answer the whole split on the first target, and weigh the bundle."""
        from pipeline.measure import accuracy, memory

        target, split = context.targets[0], context.split("eval")
        options: dict[str, Any] = {"provider": target.provider, "threads": target.threads}
        told = steps.next("answering the eval split")
        # Answers are not timed, and more threads give the same ones sooner.
        threads = max(target.threads, context.threads)
        answers = accuracy.bundle_probabilities(
            directory, split, progress=told, provider=target.provider, threads=threads
        )
        told = steps.next("measuring memory")
        peak = memory.peak(directory, split.texts, split.pairs, **options) if self.memory else None
        return ModelMeasurement(
            digest=artifact.digest,
            size=memory.size(directory),
            parameters=artifact.manifest.model.get("parameters"),
            memory=peak,
            probabilities=accuracy.as_table(answers),
        )

    def _time(
        self,
        bundles: Mapping[str, Path],
        target: Target,
        split: Split,
        context: Context,
        steps: _Steps,
    ) -> Latency:
        """Time the bundles on the same rows of the split, drawn by the seed."""
        import numpy as np

        from pipeline.measure import latency

        count = min(self.rows, len(split))
        rows = np.random.default_rng(context.seed).choice(len(split), count, replace=False)
        return latency.measure(
            bundles,
            [split.texts[row] for row in rows],
            None if split.pairs is None else [split.pairs[row] for row in rows],
            provider=target.provider,
            threads=target.threads,
            processes=self.processes,
            seconds=self.seconds,
            seed=context.seed,
            progress=steps.next(f"timing on {target.name}"),
        )


@dataclass
class _Steps:
    """Tells the progress of one step after another as one."""

    progress: Progress
    total: int
    done: int = -1

    def next(self, what: str) -> Progress:
        self.done += 1
        done = self.done
        self.progress(done, self.total, what)

        def told(part: float, whole: float, note: str) -> None:
            self.progress(done + part / max(whole, 1e-9), self.total, note)

        return told


def _ancestors(context: Context, model: Artifact) -> dict[str, Artifact]:
    """Return what the bundle was made from, teachers included, by stage id, in the recipe's order.

    The context may hold artifacts of other branches, which are not of this bundle's fingerprint.
    """
    by_digest = {artifact.digest: artifact for artifact in context.artifacts.values()}
    found: set[str] = set()
    ahead = [model]
    while ahead:
        for parent in ahead.pop().manifest.parents:
            if parent.digest in by_digest and parent.digest not in found:
                found.add(parent.digest)
                ahead.append(by_digest[parent.digest])
    return {
        name: artifact
        for name, artifact in context.artifacts.items()
        if artifact.digest in found and name != IMPORTED
    }


def _weights(artifact: Artifact) -> frozenset[tuple[str, str]]:
    """Return what decides a checkpoint's fp32 bundle: its files, but for the quantization plan."""
    return frozenset((f.path, f.sha256) for f in artifact.manifest.files if f.path != PLAN)


def _disagreements(
    labels: tuple[str, ...], split: Split, models: Mapping[str, ModelMeasurement]
) -> list[dict[str, str]]:
    """Return rows on which the candidate and the first reference differ, the losses first.

    Among losses, and among the others, the candidate's surest answers come first.
    """
    import numpy as np

    from pipeline.measure import statistics

    teacher = next((name for name in models if name != CANDIDATE), None)
    if teacher is None or split.labels is None:
        return []
    probabilities = np.asarray(models[CANDIDATE].probabilities)
    ours = statistics.answers(probabilities)
    theirs = statistics.answers(np.asarray(models[teacher].probabilities))
    truth = np.asarray(split.labels)
    rows = np.flatnonzero(ours != theirs)
    order = np.lexsort((-probabilities[rows].max(axis=1), theirs[rows] != truth[rows]))
    names = [*labels, "not a number"]  # answers() gives -1
    return [
        {"text": split.texts[row]}
        | ({} if split.pairs is None else {"pair": split.pairs[row]})
        | {"truth": names[truth[row]], "teacher": names[theirs[row]], "candidate": names[ours[row]]}
        for row in rows[order][:DISAGREEMENTS].tolist()
    ]


def _metrics(context: Context, measurements: Measurements) -> tuple[Metric, ...]:
    """Return the candidate's numbers for the manifest."""
    import numpy as np

    from pipeline.measure import statistics

    candidate = measurements.models[CANDIDATE]
    found = list(
        _scores(context, np.asarray(candidate.probabilities), np.asarray(measurements.truth))
    )
    found.append(Metric(name="size", value=candidate.size))
    if candidate.memory is not None:
        found.append(Metric(name="memory", value=candidate.memory))
    for target, timed in measurements.latency.items():
        samples = timed.samples[CANDIDATE]
        count = sum(map(len, samples))
        for percentile in PERCENTILES:
            if statistics.carries(percentile, count):
                value, low, high = statistics.percentile_interval(samples, percentile, context.seed)
                name = f"latency_p{percentile}.{target}"
                found.append(Metric(name=name, value=value, low=low, high=high, n=count))
    return tuple(found)


def _scores(
    context: Context, probabilities: NDArray[np.float64], truth: NDArray[np.int64]
) -> tuple[Metric, ...]:
    """Return the task's metrics; of a model that answers NaN only its accuracy has a value."""
    import numpy as np

    from pipeline.measure import accuracy, statistics

    if np.isfinite(probabilities).all():
        return accuracy.metrics(context.task, probabilities, truth.tolist(), "eval", context.seed)
    right = int(np.sum(statistics.answers(probabilities) == truth))
    value, low, high = statistics.wilson(right, len(truth))
    return (
        Metric(name="accuracy", split="eval", value=value, low=low, high=high, n=len(truth)),
        Metric(
            name="not_a_number",
            split="eval",
            value=float(np.mean(~np.isfinite(probabilities).all(axis=1))),
            n=len(truth),
        ),
    )
