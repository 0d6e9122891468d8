"""Validate: measure the bundle together with the checkpoints it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from pydantic import Field

from rarefy.pipeline.measure import machine
from rarefy.pipeline.model.runtime.providers import is_on_cpu
from rarefy.pipeline.stage import (
    Context,
    Draft,
    Policy,
    Requirements,
    Stage,
    StageCheck,
)
from rarefy.pipeline.store.artifact import Artifact, Kind, Metric
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.tasks.task import groups_of_blocks, timed_requests
from rarefy.pipeline.terms import metrics
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.errors import DataError, RecipeError
from rarefy.pipeline.terms.recipe_parts import CANDIDATE, FASTEST_FLOAT, THRESHOLDS, Name, Target
from rarefy.pipeline.terms.recipe_parts import MODEL as MODEL_STEP
from rarefy.pipeline.terms.wording import about, plural
from rarefy.stages.common.bundle_targets import Bundling
from rarefy.stages.training.parameters import EXPORTING
from rarefy.stages.transfer.files import Answering

if TYPE_CHECKING:
    from rarefy.pipeline.measure.measurements import (
        Latency,
        Linear,
        Measurements,
        ModelMeasurement,
        Predicted,
    )
    from rarefy.pipeline.measure.memory.cold_start import ColdStart
    from rarefy.pipeline.measure.rows_per_second import Throughput
    from rarefy.stages.common.progress import Steps
    from rarefy.stages.validate.references import References

REFERENCE, PREDICTIONS = "reference", "predictions"
FEWEST_TOKENS = 4

THROUGHPUT_START: Final = 3.0
"""Seconds in which the workers of a round start, load a few models and are warm."""


class Validate(Stage):
    """Measure accuracy, latency, memory and size of the bundle and its references for the budgets.

    The references are earlier checkpoints in fp32 on ONNX Runtime, at least as fast as its own
    fusions make them, so a speed-up is not merely that of the runtime. A tag that a budget compares
    with is measured again together with them. On CPUs, so is the first reference in OpenVINO, if
    installed: it computes in bf16 where the CPU supports it, the fastest floating-point
    configuration that we know. Latencies are measured in short blocks of calls of one model, in
    random order, in several fresh processes (Georges et al. 2007, "Statistically rigorous Java
    performance evaluation"), until every latency budget is decided or the time is up. Some further
    calls are timed with cold caches. One model is also timed against itself to estimate the noise
    of the session. The machine's fingerprint is part of the result.

    ``linear`` measures whether a transformer outperforms a linear baseline: on topics, a linear
    model on words often comes within one percentage point of a transformer (Wang & Manning 2012,
    "Baselines and bigrams"). Train and dev are only read for this model.
    """

    name: ClassVar[str] = "validate"
    version: ClassVar[int] = 23
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.BUNDLE})
    produces: ClassVar[Kind | None] = Kind.REPORT
    reads: ClassVar[frozenset[str]] = frozenset({"eval", "train", "dev"})
    libraries: ClassVar[tuple[str, ...]] = (*EXPORTING, "scikit-learn", "scipy")
    policy: ClassVar[Policy] = Policy(
        sees_ancestors=True,
        timed=True,
        keeps_files=True,
        needs={REFERENCE: Kind.CHECKPOINT, PREDICTIONS: Kind.TRANSFER_SET},
    )

    models: tuple[Name, ...] | Literal["all"] = Field(
        default="all",
        description="IDs of checkpoints to compare with; all: those that the bundle is made from",
    )
    predictions: tuple[Name, ...] = Field(
        default=(),
        description="IDs of label stages with a `file` that has predictions for the eval split as "
        "well: they are scored like a model, but nothing of them is timed",
    )
    processes: int = Field(
        default=5,
        ge=2,
        le=100,
        description="Minimum number of fresh timing processes; near a limit, a pass takes 20, "
        "of throughput excepted",
    )
    seconds: float = Field(
        default=60,
        gt=0,
        le=3600,
        description="Time limit for the latency of each target, in seconds, three times that if "
        "it passes and only processes are lacking; as much again for "
        "its throughput, if that is measured",
    )
    throughput: bool = Field(
        default=False,
        description="Whether to measure rows per second also if no budget is on `throughput`",
    )
    rows: int = Field(default=200, ge=1, description="Number of rows of the eval split to time")
    lengths: tuple[int, ...] = Field(
        default=(), description="Additional fixed lengths, in tokens, at which to measure latency"
    )
    fastest_float: bool = Field(
        default=True,
        description="Whether to also measure the first checkpoint in OpenVINO's float default, "
        "on CPUs, if the extra openvino is installed",
    )
    linear: bool | Literal["warn"] = Field(
        default=False,
        description="Whether to also train a linear baseline on the words of the rows; a bundle "
        "that is no better fails, or gets a warning",
    )
    probe: bool = Field(
        default=False,
        description="Whether to also fit a regression to embeddings of the recipe's own model, "
        "which is not trained for that; it is reported, and no bundle fails by it",
    )
    memory: bool = Field(
        default=True, description="Whether to measure the peak memory of each model"
    )
    show_texts: bool = Field(
        default=True, description="Whether to keep rows verbatim for the report"
    )
    cold_starts: int = Field(
        default=6,
        ge=0,
        le=100,
        description="Number of fresh processes that start, load and predict once",
    )

    def references(self) -> dict[str, str]:
        """Return the models, the predictions, and the recipe's model for ``probe``."""
        names = () if self.models == "all" else self.models
        steps = {f"{REFERENCE}:{name}": name for name in names}
        if self.probe and MODEL_STEP not in names:
            steps["probe"] = MODEL_STEP
        return steps | {f"{PREDICTIONS}:{name}": name for name in self.predictions}

    def check(self, recipe: StageCheck) -> None:
        """Raise RecipeError if something cannot be measured for the task, its rows or a target.

        That is a linear model, a length that no row has, or an int8 bundle that a target refuses.
        """
        task = recipe.task
        for name in ("linear", "probe"):
            if getattr(self, name) and task.objective.linear is None:
                raise RecipeError(f"`{name}: true` is not supported for {task.name}")
        longest = recipe.max_length
        possible = range(FEWEST_TOKENS, longest + 1)
        if not set(self.lengths).issubset(possible):
            raise RecipeError(
                f"lengths: {list(self.lengths)}: give lengths from {FEWEST_TOKENS} to {longest}, "
                "the data's max_length"
            )
        for name in self.predictions:
            _check_predictions(name, recipe)
        if isinstance(recipe.exporter, Bundling):
            recipe.exporter.check_targets(recipe.targets)

    def measures(self, kinds: Mapping[str, Kind]) -> tuple[str, ...]:
        """Return the checkpoints and files of predictions that the bundle is compared with."""
        names = kinds if self.models == "all" else self.models
        checkpoints = tuple(name for name in names if kinds[name] is Kind.CHECKPOINT)
        return checkpoints + self.predictions

    def environment(self, requirements: Requirements) -> dict[str, Any]:
        """Return the machine's fingerprint and everything in the recipe that affects measurement.

        Timed budgets decide when sampling stops. All others can be judged without measuring again.
        """
        timed = [budget for budget in requirements.budgets if metrics.known(budget.metric).timed]
        targets = [target.as_json() for target in requirements.targets]
        budgets = [budget.model_dump(mode="json") for budget in timed]
        return {
            "machine": machine.fingerprint(),
            "targets": targets,
            "budgets": budgets,
            "slices": requirements.slices,
            "baselines": requirements.baselines,
        }

    def run(self, context: Context, model: Artifact) -> Draft:
        """Export the references, measure everything, and write the measurements."""
        from rarefy.pipeline.measure import engines
        from rarefy.pipeline.measure.measurements import Measurements
        from rarefy.pipeline.measure.predictions import examples, slices
        from rarefy.pipeline.measure.predictions import files as answers
        from rarefy.pipeline.model.runtime import bundle_files, openvino
        from rarefy.stages.common.progress import Steps
        from rarefy.stages.validate import references

        split = context.split("eval")
        task = context.task
        truth = task.scorer.truth(split)
        if not truth:
            raise DataError(f"{split.reference}: the eval split needs labels for validate")
        providers = list(dict.fromkeys(target.provider for target in context.targets))
        if "openvino" in providers:
            openvino.check_operators(model.directory / bundle_files.MODEL)
        chosen = references.choose(self.models, context, model)
        floats: dict[str, Artifact] = {}
        if any(map(is_on_cpu, providers)):
            floats = self._fastest_floats(chosen.checkpoints)
        steps = Steps(context.progress, self._count_steps(context, chosen, len(floats), providers))
        session = Session(self, context, steps)
        built = session.build(model, chosen, floats, providers)
        first = context.targets[0].provider
        directories = built[first]
        artifacts = {CANDIDATE: model, **chosen.all, **floats}
        tokens = slices.token_counts(model.directory, split, first)
        ran_by = engines.providers(directories, first)
        models = {}
        for name, directory in directories.items():
            artifact, provider = artifacts[name], ran_by[name]
            models[name] = session.measure_model(artifact, directory, provider)
        measured = Measurements(
            machine=machine.fingerprint(),
            task=task.name,
            labels=list(task.labels),
            unlabelled=task.unlabelled,
            data=split.sha256,
            truth=truth,
            groups=groups_of_blocks(task, split),
            slices=slices.of(split, task, tokens),
            models=models,
            thresholds=_thresholds(task, model),
            aliases=chosen.aliases,
            predicted={name: session.read_predictions(name) for name in self.predictions},
            baselines={name: tagged.digest for name, tagged in context.baselines.items()},
            latency={},
        )
        by_column = slices.columns(split, task)
        measured.columns.update(by_column)
        if self.linear:
            measured.linear = session.measure_linear()
            if self.linear == "warn":
                measured.linear.level = "warn"
        if self.probe:
            measured.probe = session.measure_probe()
        for target in first_of_other_providers(context.targets):
            measured.elsewhere[target.name] = session.answer(model, target)
        if self.cold_starts:
            for name, times in session.start(directories).items():
                measured.models[name].cold_start = [start.total for start in times]
        for target in context.targets:
            latency = session.time(built[target.provider], target, measured)
            measured.latency[target.name] = latency
            if self.measures_throughput(target, context.requirements):
                bundles = built[target.provider]
                measured.throughput[target.name] = session.count(bundles, target, measured)
        if self.show_texts:
            measured.samples.extend(examples.choose(task, split, truth, measured.models))
        roles = answers.save(measured, context.output)
        times = [*measured.latency.values(), *measured.throughput.values()]
        steady = not any(timed.throttled for timed in times)
        numbers = _metrics(context, measured)
        return Draft(roles, metrics=numbers, lasts=steady)

    def measures_throughput(self, target: Target, requirements: Requirements) -> bool:
        """Return whether rows per second are measured on a target: if somebody asks for them."""
        return self.throughput or bool(throughput_budgets(target, requirements.budgets))

    def plan_throughput(
        self, requirements: Requirements, rows: Mapping[str, float]
    ) -> dict[str, float]:
        """Return in a sentence for each target what is measured of its throughput.

        With each, about how many seconds it takes, if few rounds decide it. ``rows``: seconds of a
        row of the candidate and of steps' models, by name, where they are known.
        """
        sentences = {}
        for target in requirements.targets:
            if self.measures_throughput(target, requirements):
                names = throughput_names(target, requirements.budgets)
                row = sum(rows.get(name, 0.0) for name in names)
                seconds = throughput_seconds(target, self.processes, self.seconds, row)
                what = throughput_plan(target, names)
                sentence = f"{what}; at least {about(seconds)}"
                if seconds < self.seconds:
                    sentence += f", and up to {self.seconds:g} s until its budgets are decided"
                sentences[sentence] = seconds
        return sentences

    def _fastest_floats(self, checkpoints: Mapping[str, Artifact]) -> dict[str, Artifact]:
        """Return the checkpoint to measure in OpenVINO too, under a name of its own, if any."""
        from rarefy.pipeline.model.runtime import openvino

        if not checkpoints or not self.fastest_float or not openvino.installed():
            return {}
        return {FASTEST_FLOAT: next(iter(checkpoints.values()))}

    def _count_steps(
        self, context: Context, chosen: References, floats: int, providers: Sequence[str]
    ) -> int:
        """Return in how many steps progress is shown."""
        exports = len(chosen.checkpoints) * len(providers) + floats
        models = 1 + len(chosen.all) + floats
        steps = exports + 2 * models + len(context.targets)
        steps += len(first_of_other_providers(context.targets))
        for target in context.targets:
            steps += self.measures_throughput(target, context.requirements)
        if self.cold_starts:
            steps += 1
        steps += bool(self.linear) + self.probe
        return steps


@dataclass(frozen=True)
class Session:
    """One run of the stage: its parameters, its data, and the progress that is shown."""

    settings: Validate
    context: Context
    steps: Steps

    def build(
        self,
        model: Artifact,
        chosen: References,
        floats: Mapping[str, Artifact],
        providers: Sequence[str],
    ) -> dict[str, dict[str, Path]]:
        """Export the references for each provider; return provider -> model -> its bundle.

        Args:
            model: The candidate.
            chosen: What it is compared with.
            floats: The checkpoints that are also measured in OpenVINO, on CPUs.
            providers: Those of the targets.
        """
        from rarefy.stages.validate import references

        context, split = self.context, self.context.split("eval")
        built: dict[str, dict[str, Path]] = {}
        for provider in providers:
            # Beside OpenVINO, references run in ONNX Runtime on the CPU.
            plain = "cpu" if is_on_cpu(provider) else provider
            bundles = {CANDIDATE: model.directory}
            bundles |= references.export(context, chosen.checkpoints, plain, split, self.steps)
            for name, artifact in chosen.bundles.items():
                bundles[name] = artifact.directory
            built[provider] = bundles
        fastest = references.export_fastest(context, floats, split, self.steps)
        for provider in filter(is_on_cpu, providers):
            built[provider] |= fastest
        return built

    def measure_model(self, artifact: Artifact, directory: Path, provider: str) -> ModelMeasurement:
        """Predict the whole split on the first target, and measure size and peak memory."""
        from rarefy.pipeline.measure.measurements import ModelMeasurement
        from rarefy.pipeline.measure.memory import memory
        from rarefy.pipeline.measure.predictions import predict as accuracy
        from rarefy.pipeline.model.runtime.bundle_model import BundleModel

        context = self.context
        task, target, split = context.task, context.targets[0], context.split("eval")
        progress = self.steps.next("predicting the eval split")
        # Answers are not timed, and more threads give the same answers sooner.
        threads = max(target.threads, context.threads)
        loaded = BundleModel(directory, provider=provider, threads=threads)
        table = accuracy.model_answers(loaded, task, split, progress)
        measurement = ModelMeasurement(
            digest=artifact.digest,
            size=memory.size(directory),
            parameters=artifact.manifest.model.get("parameters"),
            precision=loaded.precision,
            answers=accuracy.as_table(table),
        )
        if not self.settings.memory:
            self.steps.next("measuring size")
            return measurement
        self.steps.next("measuring memory")
        texts, pairs = task.encoder.requests(split)
        peak = memory.peak(directory, texts, pairs, provider=provider, threads=target.threads)
        measurement.memory = peak.host
        measurement.device_memory = peak.device
        measurement.adapter_memory = peak.adapter
        return measurement

    def read_predictions(self, name: str) -> Predicted:
        """Return the predictions for the whole split of the file that a label stage kept."""
        from rarefy.pipeline.measure.measurements import Predicted
        from rarefy.pipeline.measure.predictions import predict as accuracy
        from rarefy.stages.transfer import predictions as outside

        artifact = self.context.artifacts[name]
        predictions = outside.of_artifact(artifact, self.context.task)
        table = predictions.answers(self.context.split("eval"))
        return Predicted(digest=artifact.digest, answers=accuracy.as_table(table))

    def measure_linear(self) -> Linear:
        """Train the linear model, and measure it on the eval split."""
        from rarefy.pipeline.measure.predictions import linear_model as linear

        context = self.context
        splits = [context.split(name) for name in ("train", "dev", "eval")]
        progress = self.steps.next("training the linear model")
        return linear.measure(context.task, *splits, seed=context.seed, progress=progress)

    def measure_probe(self) -> Linear:
        """Fit a regression to the frozen model's embeddings, and measure it on the eval split."""
        from rarefy.pipeline.measure.predictions import probe

        context = self.context
        splits = [context.split(name) for name in ("train", "dev", "eval")]
        progress = self.steps.next("embedding rows with the model as it is")
        directory = context.artifacts[MODEL_STEP].directory
        return probe.measure(
            context.task,
            directory,
            *splits,
            seed=context.seed,
            device=context.device,
            progress=progress,
        )

    def answer(self, model: Artifact, target: Target) -> list[list[float]]:
        """Predict the whole split on a target; return units × columns."""
        from rarefy.pipeline.measure.predictions import predict as accuracy

        table = accuracy.bundle_answers(
            model.directory,
            self.context.task,
            self.context.split("eval"),
            provider=target.provider,
            threads=max(target.threads, self.context.threads),
            progress=self.steps.next(f"predicting on {target.name}"),
        )
        return accuracy.as_table(table)

    def start(self, bundles: Mapping[str, Path]) -> dict[str, list[ColdStart]]:
        """Start the bundles in fresh processes, in turn, on the first target."""
        from rarefy.pipeline.measure.memory import cold_start

        context = self.context
        texts, pairs = timed_requests(context.task, context.split("eval"))
        return cold_start.measure(
            bundles,
            texts,
            pairs,
            provider=context.targets[0].provider,
            threads=context.targets[0].threads,
            runs=self.settings.cold_starts,
            seed=context.seed,
            progress=self.steps.next("starting each model in fresh processes"),
        )

    def time(self, bundles: Mapping[str, Path], target: Target, measured: Measurements) -> Latency:
        """Time the bundles on the same rows of the split until all timed budgets are decided."""
        from rarefy.pipeline.measure.latency import session as latency
        from rarefy.pipeline.measure.row_lengths import rows_to_time

        settings, context = self.settings, self.context
        split = context.split("eval")
        texts, pairs = rows_to_time(context.task, split, settings.rows, context.seed)
        cold: int | None = settings.processes
        budgets = _budgets_on(target, context.requirements.budgets)
        if any(budget.caches == "cold" for budget in budgets):
            cold = None  # all processes
        judged = [CANDIDATE]
        judged += measured.references[:1]
        for budget in budgets:
            name = measured.name_of(budget.against or "")
            if name is not None:
                judged.append(name)
        return latency.measure(
            bundles,
            texts,
            pairs,
            provider=target.provider,
            threads=target.threads,
            processes=settings.processes,
            seconds=settings.seconds,
            seed=context.seed,
            lengths=settings.lengths,
            cold=cold,
            percentile=99,
            clear=context.stopping_rule(target, measured),
            judged=judged,
            progress=self.steps.next(f"timing on {target.name}"),
        )

    def count(
        self, bundles: Mapping[str, Path], target: Target, measured: Measurements
    ) -> Throughput:
        """Measure rows a second until all budgets on them are decided."""
        from rarefy.pipeline.measure.throughput import rows, session

        settings, context = self.settings, self.context
        names = throughput_models(target, context.requirements.budgets, measured)
        return session.measure(
            {name: bundles[name] for name in names},
            rows.job_of(context.task, context.split("eval")),
            target,
            processes=settings.processes,
            seconds=settings.seconds,
            seed=context.seed,
            clear=context.throughput_rule(target, measured),
            progress=self.steps.next(f"measuring throughput on {target.name}"),
        )


def _check_predictions(name: str, recipe: StageCheck) -> None:
    """Raise RecipeError if a stage has no file of predictions, or it lacks one for an eval row."""
    from rarefy.stages.transfer import predictions as outside

    stage = recipe.stages.get(name)
    file = stage.predictions_file if isinstance(stage, Answering) else None
    if file is None:
        raise RecipeError(
            f"predictions: {name!r} has no file of predictions; name a label stage with one"
        )
    if recipe.opened is not None:
        opened = recipe.opened
        reference, id_column = file
        predictions = outside.read(reference, opened.base, opened.task, id_column)
        predictions.answers(opened.rows()["eval"])


def first_of_other_providers(targets: Sequence[Target]) -> list[Target]:
    """Return the first target of each provider other than the first target's."""
    firsts: dict[str, Target] = {}
    for target in targets:
        firsts.setdefault(target.provider, target)
    return list(firsts.values())[1:]


def _thresholds(task: Task, model: Artifact) -> dict[str, float | None]:
    """Return the thresholds below which a bundle leaves a row undecided; empty if it has none."""
    if not task.head.abstains:
        return {}
    from rarefy.pipeline.model.runtime import bundle_files

    config = bundle_files.read(model.directory, "config.json")
    settings = task.head.settings(config)
    found: dict[str, float | None] = settings.get(THRESHOLDS, {})
    return found


def _budgets_on(target: Target, budgets: Sequence[Budget]) -> list[Budget]:
    """Return the budgets that are judged by the calls on a target."""
    timed = [budget for budget in budgets if metrics.known(budget.metric).timed]
    return [budget for budget in timed if budget.target in (None, target.name)]


def _metrics(context: Context, measurements: Measurements) -> tuple[Metric, ...]:
    """Return the candidate's metrics for the manifest."""
    import numpy as np

    from rarefy.pipeline.measure.statistics import intervals

    candidate = measurements.models[CANDIDATE]
    numbers = list(_scores(context.task, measurements))
    numbers.append(Metric(name="size", value=candidate.size))
    if candidate.memory is not None:
        numbers.append(Metric(name="memory", value=candidate.memory))
    if candidate.adapter_memory is not None:
        numbers.append(Metric(name="adapter_memory", value=candidate.adapter_memory))
    if candidate.cold_start:
        middle = float(np.median(candidate.cold_start))
        numbers.append(Metric(name="cold_start", value=middle))
    for target, timed in measurements.latency.items():
        samples = timed.samples[CANDIDATE]
        count = sum(map(len, samples))
        for percentile in metrics.PERCENTILES:
            if not intervals.carries(percentile, count):
                continue
            interval = timed.percentile(CANDIDATE, percentile)
            name = f"latency_p{percentile}.{target}"
            numbers.append(Metric(name=name, **interval._asdict(), n=count))
    for target, timed_rows in measurements.throughput.items():
        rate = timed_rows.rate(CANDIDATE)
        numbers.append(Metric(name=f"throughput.{target}", **rate._asdict()))
    return tuple(numbers)


def _scores(task: Task, measurements: Measurements) -> tuple[Metric, ...]:
    """Return the candidate's scores; only the main score if the model answers NaN."""
    import numpy as np

    from rarefy.pipeline.measure.predictions import predict as accuracy

    table = measurements.table(CANDIDATE)
    truth, groups = measurements.truth, measurements.groups
    finite = np.isfinite(table).all(axis=1)
    broken = float(np.mean(~finite))
    if not broken:
        return accuracy.metrics(task, task.scorer.formulas(truth), table, truth, "eval", groups)
    main = accuracy.metrics(task, [measurements.main], table, truth, "eval", groups)
    share = Metric(name="not_a_number", split="eval", value=broken, n=len(table))
    return (*main, share)


def throughput_budgets(target: Target, budgets: Sequence[Budget]) -> list[Budget]:
    """Return the budgets on the throughput on a target."""
    on_target = [budget for budget in budgets if budget.target in (None, target.name)]
    return [budget for budget in on_target if metrics.known(budget.metric).kind == "throughput"]


def throughput_models(
    target: Target, budgets: Sequence[Budget], measured: Measurements
) -> list[str]:
    """Return the candidate, and the measured models that a budget compares its throughput with.

    No others: a teacher takes as long as a hundred students.
    """
    names = [CANDIDATE]
    for budget in throughput_budgets(target, budgets):
        name = measured.name_of(budget.against or "")
        if name is not None and name not in names:
            names.append(name)
    return names


def throughput_names(target: Target, budgets: Sequence[Budget]) -> list[str]:
    """Return the candidate, and what the recipe's budgets compare its throughput with."""
    names = [CANDIDATE]
    for budget in throughput_budgets(target, budgets):
        if budget.against and budget.against not in names:
            names.append(budget.against)
    return names


def throughput_plan(target: Target, names: Sequence[str]) -> str:
    """Return in words what will be measured of models on a target."""
    from rarefy.pipeline.measure.throughput import session

    models = " and ".join(names)
    workers = plural(session.workers_on(target), "worker")
    threads = plural(target.threads, "thread")
    rows = f"batches of {target.batch_size}"
    if target.batch_size is None:
        sizes = ", ".join(map(str, session.SIZES))
        rows = f"the fastest of batches of {sizes}"
    return (
        f"throughput on {target.name}: rows a second of {models} with {workers} × {threads}, in "
        f"{rows}"
    )


def throughput_seconds(target: Target, processes: int, seconds: float, row: float) -> float:
    """Return about how many seconds the fewest rounds take, with the one that chooses a batch.

    ``row``: seconds in which all cores answer a row with each model. Every worker answers all rows
    of a round, and the fewest that it has are many for a slow model.
    """
    from rarefy.pipeline.measure.throughput import session, worker

    rounds = processes
    sizes: Sequence[int] = session.SIZES
    if target.batch_size is None:
        rounds += len(sizes)
    else:
        sizes = [target.batch_size]
    rows = session.workers_on(target) * worker.LEAST * worker.stretch_of(sizes)
    timed = max(seconds / session.SHARE, rows * row)
    return (1 + processes) * THROUGHPUT_START + rounds * timed
