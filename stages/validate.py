"""Validate: measure the bundle together with the checkpoints it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline.measure import answers, engines, examples, machine, slices
from pipeline.measure.measurements import (
    CANDIDATE,
    FASTEST_FLOAT,
    Latency,
    Linear,
    Measurements,
    ModelMeasurement,
)
from pipeline.model import openvino_session, runtime
from pipeline.stage import Asked, Context, Draft, Stage
from pipeline.stage.tasks import Task
from pipeline.stage.tasks.encoder import timed_requests
from pipeline.stage.tasks.scorer import groups_of_blocks
from pipeline.store.artifact import Artifact, Kind, Metric
from pipeline.terms import metrics
from pipeline.terms.budget import Budget
from pipeline.terms.errors import DataError, RecipeError
from pipeline.terms.vocabulary import Name, Target
from stages import references
from stages.export import Export
from stages.parameters import EXPORTING
from stages.steps import Steps

REFERENCE = "reference"
FEWEST_TOKENS = 4


class Validate(Stage):
    """Measure answers, latency, memory and size of the bundle and its references for the budgets.

    The references are earlier checkpoints in fp32 on ONNX Runtime, at least as fast as its own
    fusions make them, so a speed-up is not merely that of the runtime. A tag that a budget compares
    with is measured again beside them. On CPUs, so is the first reference in OpenVINO, if that is
    installed: it computes in bf16 where the CPU can, the fastest form of a float model that we
    know. Latencies are measured in short blocks of calls of one model, in random order, in several
    fresh processes (Georges et al. 2007, "Statistically rigorous Java performance evaluation"),
    until every latency budget is decided or the time is up; and some calls, each with emptied
    caches. One model is also timed against itself to estimate the noise of the session. The
    machine's fingerprint is part of the result.

    ``linear`` says whether a transformer pays at all: on topics, a linear model on words often
    comes within a point of one (Wang & Manning 2012, "Baselines and bigrams"). Only for it are
    train and dev read.
    """

    name: ClassVar[str] = "validate"
    version: ClassVar[int] = 15
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.BUNDLE})
    produces: ClassVar[Kind | None] = Kind.REPORT
    reads: ClassVar[frozenset[str]] = frozenset({"eval", "train", "dev"})
    libraries: ClassVar[tuple[str, ...]] = (*EXPORTING, "scikit-learn", "scipy")
    needs: ClassVar[Mapping[str, Kind]] = {REFERENCE: Kind.CHECKPOINT}
    sees_ancestors: ClassVar[bool] = True
    timed: ClassVar[bool] = True
    keeps: ClassVar[bool] = True

    models: tuple[Name, ...] | Literal["all"] = Field(
        default="all",
        description="ids of checkpoints to compare with; all: those the bundle is made from",
    )
    processes: int = Field(default=5, ge=2, le=100, description="fresh timing processes, at least")
    seconds: float = Field(default=60, gt=0, le=3600, description="limit for each target's latency")
    rows: int = Field(default=200, ge=1, description="rows of the eval split to time")
    lengths: tuple[int, ...] = Field(
        default=(), description="fixed lengths, in tokens, to measure latency at in addition"
    )
    fastest_float: bool = Field(
        default=True,
        description="on CPUs, measure the first checkpoint also in OpenVINO's float default, if "
        "the extra openvino is installed",
    )
    linear: bool = Field(
        default=False,
        description="also train a linear model on the words of the rows; a bundle that is no "
        "better fails",
    )
    memory: bool = Field(default=True, description="measure the peak memory of each model")
    examples: bool = Field(default=True, description="keep rows word for word, for the report")
    cold_starts: int = Field(
        default=6, ge=0, le=100, description="fresh processes that start, load and answer once"
    )

    def references(self) -> dict[str, str]:
        """Return the checkpoints named by ``models``."""
        names = () if self.models == "all" else self.models
        return {f"{REFERENCE}:{name}": name for name in names}

    def check_task(self, task: Task) -> None:
        """Raise RecipeError if no linear model can be trained for the task."""
        if self.linear and task.objective.linear is None:
            raise RecipeError(f"linear: an answer of {task.name} is no label or score of a row")

    def check_length(self, longest: int) -> None:
        """Raise RecipeError if a row cannot have one of the lengths to measure at."""
        if any(not FEWEST_TOKENS <= length <= longest for length in self.lengths):
            raise RecipeError(
                f"lengths: {list(self.lengths)}: give lengths from {FEWEST_TOKENS} to {longest}, "
                "the data's max_length"
            )

    def misfit(self, maker: Stage, targets: tuple[Target, ...]) -> str | None:
        """Refuse an int8 bundle that one of the targets cannot run."""
        return maker.refused_by(targets) if isinstance(maker, Export) else None

    def measures(self, kinds: dict[str, Kind]) -> tuple[str, ...]:
        """Return the checkpoints that are measured together with the bundle."""
        names = kinds if self.models == "all" else self.models
        return tuple(name for name in names if kinds[name] is Kind.CHECKPOINT)

    def environment(self, asked: Asked) -> dict[str, Any]:
        """Return the machine's fingerprint and everything in the recipe that affects measurement.

        Timed budgets decide when sampling stops. All others can be judged without measuring again.
        """
        return {
            "machine": machine.fingerprint(),
            "targets": [target.model_dump(mode="json") for target in asked.targets],
            "budgets": [budget.model_dump(mode="json") for budget in _timed(asked.budgets)],
            "slices": asked.slices,
            "baselines": asked.baselines,
        }

    def run(self, context: Context, model: Artifact) -> Draft:
        """Export the references, measure everything, and write what was found."""
        split = context.split("eval")
        task = context.task
        truth = task.scorer.truth(split)
        if not truth:
            raise DataError(f"{split.reference}: the eval split needs labels for validate")
        providers = dict.fromkeys(target.provider for target in context.targets)
        if "openvino" in providers:
            openvino_session.check_operators(model.directory / runtime.MODEL)
        chosen = references.choose(self.models, context, model)
        floats = self._floats(chosen.checkpoints) if any(map(_on_cpu, providers)) else {}
        count = 1 + len(chosen.all) + len(floats)
        parts = len(chosen.checkpoints) * len(providers) + len(floats)
        parts += 2 * count + len(context.targets)
        parts += len(_elsewhere(context.targets)) + (self.cold_starts > 0) + self.linear
        steps = Steps(context.progress, parts)
        built = {
            provider: {CANDIDATE: model.directory}
            | references.export(context, chosen.checkpoints, _plain(provider), split, steps)
            | {name: artifact.directory for name, artifact in chosen.bundles.items()}
            for provider in providers
        }
        fastest = references.fastest(context, floats, split, steps)
        for provider in filter(_on_cpu, providers):
            built[provider] |= fastest
        directories = built[context.targets[0].provider]
        artifacts = {CANDIDATE: model, **chosen.all, **floats}
        tokens = slices.token_counts(model.directory, split, context.targets[0].provider)
        ran_by = engines.providers(directories, context.targets[0].provider)
        measured = Measurements(
            machine=machine.fingerprint(),
            task=context.task.name,
            labels=list(context.task.labels),
            unlabelled=context.task.unlabelled,
            data=split.sha256,
            truth=truth,
            groups=groups_of_blocks(task, split),
            slices=slices.of(split, task, tokens),
            models={
                name: self._measure(context, artifacts[name], directory, ran_by[name], steps)
                for name, directory in directories.items()
            },
            aliases=chosen.aliases,
            baselines={n: a.digest for n, a in context.baselines.items()},
            latency={},
        )
        if self.linear:
            measured.linear = _linear(context, steps)
        self._answer_elsewhere(model, measured, context, steps)
        if self.cold_starts:
            self._start(directories, measured, context, steps)
        for target in context.targets:
            bundles = built[target.provider]
            measured.latency[target.name] = self._time(bundles, target, measured, context, steps)
        if self.examples:
            measured.samples.extend(examples.choose(task, split, truth, measured.models))
        roles = answers.save(measured, context.output)
        steady = not any(timed.throttled for timed in measured.latency.values())
        return Draft(roles, metrics=_metrics(context, measured), lasts=steady)

    def _floats(self, checkpoints: Mapping[str, Artifact]) -> dict[str, Artifact]:
        """Return the checkpoint to measure in OpenVINO too, under a name of its own, if any."""
        first = next(iter(checkpoints.values()), None)
        wanted = self.fastest_float and openvino_session.installed()
        return {FASTEST_FLOAT: first} if first and wanted else {}

    def _measure(
        self, context: Context, artifact: Artifact, directory: Path, provider: str, steps: Steps
    ) -> ModelMeasurement:
        """Predict the whole split on the first target, and measure size and peak memory."""
        from pipeline.measure import accuracy, memory

        target, split = context.targets[0], context.split("eval")
        options: dict[str, Any] = {"provider": provider, "threads": target.threads}
        progress = steps.next("answering the eval split")
        # Answers are not timed, and more threads give the same answers sooner.
        threads = max(target.threads, context.threads)
        task = context.task
        loaded = runtime.BundleModel(directory, provider=provider, threads=threads)
        given = accuracy.model_answers(loaded, task, split, progress)
        steps.next("measuring memory" if self.memory else "measuring size")
        texts, pairs = task.encoder.requests(split)
        peak = memory.peak(directory, texts, pairs, **options) if self.memory else None
        return ModelMeasurement(
            digest=artifact.digest,
            size=memory.size(directory),
            parameters=artifact.manifest.model.get("parameters"),
            precision=loaded.precision,
            memory=peak.host if peak else None,
            device_memory=peak.device if peak else None,
            answers=accuracy.as_table(given),
        )

    def _answer_elsewhere(
        self, model: Artifact, measured: Measurements, context: Context, steps: Steps
    ) -> None:
        """Predict the whole split on each target whose provider is not the first target's."""
        from pipeline.measure import accuracy

        for target in _elsewhere(context.targets):
            given = accuracy.bundle_answers(
                model.directory,
                context.task,
                context.split("eval"),
                provider=target.provider,
                threads=max(target.threads, context.threads),
                progress=steps.next(f"answering on {target.name}"),
            )
            measured.elsewhere[target.name] = accuracy.as_table(given)

    def _start(
        self, bundles: Mapping[str, Path], measured: Measurements, context: Context, steps: Steps
    ) -> None:
        """Start the bundles in fresh processes, in turn, on the first target; record the ms."""
        from pipeline.measure import cold_start

        target = context.targets[0]
        texts, pairs = timed_requests(context.task, context.split("eval"))
        starts = cold_start.measure(
            bundles,
            texts,
            pairs,
            provider=target.provider,
            threads=target.threads,
            runs=self.cold_starts,
            seed=context.seed,
            progress=steps.next("starting each model in fresh processes"),
        )
        for name, times in starts.items():
            measured.models[name].cold_start = [start.total for start in times]

    def _time(
        self,
        bundles: Mapping[str, Path],
        target: Target,
        measured: Measurements,
        context: Context,
        steps: Steps,
    ) -> Latency:
        """Time the bundles on the same rows of the split until all timed budgets are decided."""
        import numpy as np

        from pipeline.measure import latency
        from pipeline.verdict.judge import judge

        texts, pairs = timed_requests(context.task, context.split("eval"))
        count = min(self.rows, len(texts))
        rows = np.random.default_rng(context.seed).choice(len(texts), count, replace=False)
        budgets = [b for b in _timed(context.asked.budgets) if b.target in (None, target.name)]

        def clear(timed: Latency) -> bool:
            so_far = measured.model_copy(update={"latency": {target.name: timed}})
            judged = judge(budgets, [target], so_far, trusted=True)
            return all(result.outcome != "inconclusive" for result in judged.budgets)

        return latency.measure(
            bundles,
            [texts[row] for row in rows],
            None if pairs is None else [pairs[row] for row in rows],
            provider=target.provider,
            threads=target.threads,
            processes=self.processes,
            seconds=self.seconds,
            seed=context.seed,
            lengths=self.lengths,
            cold=None if any(b.caches == "cold" for b in budgets) else self.processes,
            clear=clear if budgets else None,
            progress=steps.next(f"timing on {target.name}"),
        )


def _linear(context: Context, steps: Steps) -> Linear:
    from pipeline.measure import linear

    splits = (context.split(name) for name in ("train", "dev", "eval"))
    progress = steps.next("training the linear model")
    return linear.measure(context.task, *splits, seed=context.seed, progress=progress)


def _plain(provider: str) -> str:
    """Return the provider on which references run: beside OpenVINO, ONNX Runtime on the CPU."""
    return "cpu" if _on_cpu(provider) else provider


def _on_cpu(provider: str) -> bool:
    return runtime.DEVICES[provider] == "cpu"


def _elsewhere(targets: tuple[Target, ...]) -> list[Target]:
    """Return the first target of each provider other than the first target's."""
    firsts = {target.provider: target for target in reversed(targets)}
    return [target for target in targets[1:] if firsts[target.provider] is target]


def _timed(budgets: tuple[Budget, ...]) -> list[Budget]:
    return [budget for budget in budgets if metrics.known(budget.metric).timed]


def _metrics(context: Context, measurements: Measurements) -> tuple[Metric, ...]:
    """Return the candidate's metrics for the manifest."""
    import numpy as np

    from pipeline.measure import statistics

    candidate = measurements.models[CANDIDATE]
    numbers = [*_scores(context.task, measurements)]
    numbers.append(Metric(name="size", value=candidate.size))
    if candidate.memory is not None:
        numbers.append(Metric(name="memory", value=candidate.memory))
    if candidate.cold_start:
        numbers.append(Metric(name="cold_start", value=float(np.median(candidate.cold_start))))
    for target, timed in measurements.latency.items():
        samples = timed.samples[CANDIDATE]
        count = sum(map(len, samples))
        for percentile in metrics.PERCENTILES:
            if statistics.carries(percentile, count):
                interval = timed.percentile(CANDIDATE, percentile)
                name = f"latency_p{percentile}.{target}"
                numbers.append(Metric(name=name, **interval._asdict(), n=count))
    return tuple(numbers)


def _scores(task: Task, measurements: Measurements) -> tuple[Metric, ...]:
    """Return the candidate's scores; only the main score if the model answers NaN."""
    import numpy as np

    from pipeline.measure import accuracy

    given, truth = measurements.table(CANDIDATE), measurements.truth
    groups = measurements.groups
    broken = float(np.mean(~np.isfinite(given).all(axis=1)))
    if not broken:
        return accuracy.metrics(task, task.scorer.formulas(truth), given, truth, "eval", groups)
    return (
        *accuracy.metrics(task, [measurements.main], given, truth, "eval", groups),
        Metric(name="not_a_number", split="eval", value=broken, n=len(given)),
    )
