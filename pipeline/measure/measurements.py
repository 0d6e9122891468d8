"""The results of ``validate``: enough to judge any budget later without measuring again."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from rarefy.pipeline.measure.rows_per_second import Throughput
from rarefy.pipeline.terms import recipe_parts
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.metrics import OwnMetric

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from rarefy.pipeline.measure.statistics.intervals import Bootstrap
    from rarefy.pipeline.tasks import Task

SCHEMA: Final = "rarefy.measurements/4"
FILE = "measurements.json"
CANDIDATE: Final = recipe_parts.CANDIDATE
FASTEST_FLOAT: Final = recipe_parts.FASTEST_FLOAT


class _Record(BaseModel):
    # A model may answer NaN. Strings keep NaN readable, because JSON has no literal for it.
    model_config = ConfigDict(extra="forbid", populate_by_name=True, ser_json_inf_nan="strings")


class ModelMeasurement(_Record):
    """One model: the candidate, a reference in fused fp32 ONNX Runtime, or a tagged bundle.

    ``answers`` is units × columns on the eval split, as the task's ``answers`` gives them; on disk
    they are beside the JSON (``rarefy.pipeline.measure.predictions.files``). ``size`` is the bytes
    of all files
    needed to answer. ``memory`` is the peak resident set, in bytes, of a fresh process that loads
    and answers, minus that of a process with the same imports only. ``device_memory`` is the peak
    on the GPU, and ``adapter_memory`` what each further adapter of the same size adds to ``memory``
    if the bundle's adapter is a file. ``cold_start`` is the ms from the start of a fresh process to
    its first answer, one entry per process; entry i of every model comes from the same round.
    ``precision`` is what the runtime computes floats in if it chooses, as OpenVINO does: ``bf16``
    or ``fp32``.
    """

    digest: str
    size: int
    parameters: int | None = None
    precision: str | None = None
    memory: int | None = None
    device_memory: int | None = None
    adapter_memory: int | None = Field(default=None, exclude_if=lambda added: added is None)
    cold_start: list[float] = Field(default_factory=list)
    answers: list[list[float]] = Field(default_factory=list)


class Predicted(_Record):
    """Another system's predictions, which were read from a file: nothing of it was timed.

    ``digest`` is of the artifact with the file, ``answers`` are like those of a model.
    """

    digest: str
    answers: list[list[float]] = Field(default_factory=list)


class Linear(_Record):
    """A linear model on word counts of the same rows; see ``predictions/linear_model.py``.

    Or one on embeddings of the recipe's model, which is not timed; see ``predictions/probe.py``.

    ``size`` is the bytes of its pickle. ``seconds``: to train it, on ``rows`` rows.
    ``milliseconds`` from text to answer, one entry a call, in the process that measures.
    ``level``: whether a candidate that is no better fails, or is a warning only.
    """

    level: Literal["error", "warn"] = "error"
    size: int
    seconds: float
    rows: int
    milliseconds: list[float]
    answers: list[list[float]] = Field(default_factory=list)


class Latency(_Record):
    """Latencies on one target, in ms, batch 1, unpadded eval rows.

    ``samples[model][process]`` holds one process's calls. Position i is the same row for every
    model. Each ``block`` calls of a model were timed one after another, and the models took turns
    in random order. ``cpu``, ``tokenizer`` (ms from text to feed, right before the call) and
    ``device`` (GPU only: ms with inputs and outputs in its memory) have the same layout. ``tokens``
    lists the calls of all processes in order.
    ``cold`` and ``cold_tokenizer`` hold calls that each found emptied caches. ``fixed`` holds calls
    of rows of one length each: tokens -> model -> process. ``noise`` is the interval of the A/A
    ratio, the baseline's median against itself. ``called`` and ``cold_called`` hold the row of each
    call by process, empty if an earlier version timed them.

    Sampling may have stopped at any of ``looks`` looks at the data. Every interval is therefore
    computed at 1 − 0.05/looks (Bonferroni), so its coverage is 95 % whenever sampling stopped.
    """

    samples: dict[str, list[list[float]]]
    cpu: dict[str, list[list[float]]] = Field(
        default_factory=dict, description="CPU ms of the calls"
    )
    tokenizer: dict[str, list[list[float]]] = Field(default_factory=dict)
    device: dict[str, list[list[float]]] = Field(default_factory=dict)
    block: int = 1
    cold: dict[str, list[list[float]]] = Field(default_factory=dict)
    cold_tokenizer: dict[str, list[list[float]]] = Field(default_factory=dict)
    fixed: dict[str, dict[str, list[list[float]]]] = Field(default_factory=dict)
    tokens: list[int] = Field(default_factory=list, description="each call's length in tokens")
    called: list[list[int]] = Field(default_factory=list, description="each call's row")
    cold_called: list[list[int]] = Field(default_factory=list)
    rows: int = Field(default=0, description="how many rows the calls were drawn from; 0: unknown")
    sample: str = Field(default="", description="a digest of these rows")
    seed: int = Field(default=0, description="of what was drawn")
    noise: tuple[float, float] | None = None
    busy: list[str] = Field(default_factory=list, description="why the machine was not quiet")
    disturbed: int = Field(default=0, description="processes that saw other load")
    throttled: str | None = Field(
        default=None, description="how the machine's speed changed during timing"
    )
    looks: int = 1
    seconds: float = 0.0
    stopped: str = Field(default="", description="why timing stopped")
    provider: str = ""
    threads: int = 1

    @property
    def processes(self) -> int:
        """How many processes timed calls."""
        return max(map(len, self.samples.values()), default=0)

    def calls(self, model: str, *, whole: bool = False, cold: bool = False) -> list[list[float]]:
        """Return the ms of a model's calls by process; empty if it was not timed so.

        ``whole``: from text to logits, the tokenizer's ms plus the model's. ``cold``: the calls
        that found emptied caches.
        """
        alone = (self.cold if cold else self.samples).get(model, [])
        if not whole:
            return alone
        tokenizer = (self.cold_tokenizer if cold else self.tokenizer).get(model, [])
        both = []
        for model_ms, tokenizer_ms in zip(alone, tokenizer, strict=False):
            pairs = zip(model_ms, tokenizer_ms, strict=True)
            both.append([first + second for first, second in pairs])
        return both

    def slowest(
        self, model: str, reference: str | None = None, *, cold: bool = False, left_out: int = 0
    ) -> float:
        """Return how many times as long a model's slowest process took as its middle one.

        Relative to ``reference``, by default the first other model; without one, it is not known,
        and 1. ``left_out``: so many slower ones are not looked at.
        """
        from rarefy.pipeline.measure import stopping

        others = [name for name in self.samples if name != model]
        if not others:
            return 1.0
        ours = self.calls(model, cold=cold)
        theirs = self.calls(reference or others[0], cold=cold)
        return stopping.slowest(ours, theirs, left_out)

    def repeated(self, processes: int) -> Latency:
        """Return these latencies as if their processes had been repeated until there were so many.

        Of what budgets on times are judged by.
        """

        def longer(values: list[Any]) -> list[Any]:
            return list(itertools.islice(itertools.cycle(values), processes if values else 0))

        changes: dict[str, Any] = {}
        for name in ("samples", "tokenizer", "cold", "cold_tokenizer"):
            by_model = getattr(self, name)
            changes[name] = {model: longer(calls) for model, calls in by_model.items()}
        for name in ("called", "cold_called"):
            values = getattr(self, name)
            changes[name] = longer(values)
        return self.model_copy(update=changes)

    def percentile(
        self,
        model: str,
        percent: float,
        *,
        whole: bool = False,
        cold: bool = False,
        population: bool = False,
    ) -> Interval:
        """Return a percentile of a model's calls in ms; see ``calls``.

        ``population``: of all rows that those timed are a sample of; else of those timed alone.
        """
        from rarefy.pipeline.measure.statistics.intervals import percentile_interval

        calls = self.calls(model, whole=whole, cold=cold)
        rows = self.cold_called if cold else self.called
        drawn = rows if population else ()
        return percentile_interval(calls, percent, looks=self.looks, rows=drawn)

    def ratio(self, over: str, under: str, percent: float = 50) -> Interval:
        """Return the ratio of a percentile of two models' calls, ``over`` / ``under``."""
        from rarefy.pipeline.measure.statistics.intervals import percentile_ratio

        return percentile_ratio(self.samples[over], self.samples[under], percent, looks=self.looks)


class Measurements(_Record):
    """All measurements, with the machine they were taken on."""

    schema_: Literal["rarefy.measurements/4"] = Field(default=SCHEMA, alias="schema")
    machine: dict[str, Any]
    task: str
    labels: list[str]
    unlabelled: bool = Field(
        default=False, description="whether the truth is the answers of the recipe's model"
    )
    data: str = Field(default="", description="the sha256 of the eval split's file")
    truth: list[Any]
    groups: list[int] = Field(
        default_factory=list, description="the group of each block; empty if each is its own"
    )
    slices: dict[str, list[str]] = Field(
        default_factory=dict, description="slicing -> each eval row's part in it"
    )
    columns: dict[str, list[str]] = Field(
        default_factory=dict, description="column of data.slices -> each block's value"
    )
    models: dict[str, ModelMeasurement]
    thresholds: dict[str, float | None] = Field(
        default_factory=dict,
        description="label -> the probability below which the candidate leaves a row undecided; "
        "empty if it decides every row",
    )
    elsewhere: dict[str, list[list[float]]] = Field(
        default_factory=dict,
        description="target -> the candidate's answers, if its provider differs",
    )
    aliases: dict[str, str] = Field(
        default_factory=dict, description="stage id -> the measured model with the same weights"
    )
    baselines: dict[str, str] = Field(
        default_factory=dict, description="measured models that are tags -> the tag's digest"
    )
    latency: dict[str, Latency]
    throughput: dict[str, Throughput] = Field(
        default_factory=dict, description="target -> rows a second; empty if nobody asked for it"
    )
    linear: Linear | None = Field(
        default=None, description="what a linear model answers that was trained on the same rows"
    )
    probe: Linear | None = Field(
        default=None,
        description="what a regression answers that was fitted to embeddings of the recipe's model",
    )
    predicted: dict[str, Predicted] = Field(
        default_factory=dict, description="stage id -> the predictions of a file that it joined"
    )
    samples: list[dict[str, str]] = Field(
        default_factory=list, description="the text of example rows with both models' answers"
    )
    answers_sha256: str = Field(
        default="", description="of the file with the answers; empty once they are read"
    )
    _own: OwnMetric | None = PrivateAttr(default=None)

    @property
    def references(self) -> list[str]:
        """Names of the models that the candidate is compared with, the teacher first."""
        return [name for name in self.models if name != CANDIDATE]

    @property
    def scored_by(self) -> Task:
        """The task, which says how answers are scored."""
        from rarefy.pipeline import tasks
        from rarefy.pipeline.tasks import unlabelled

        task = tasks.find(self.task)
        if self.unlabelled:
            return unlabelled.without_labels(task)
        return task.scoring(self._own) if self._own else task

    def scored_with(self, metric: OwnMetric | None) -> Measurements:
        """Return the same measurements, whose task has a metric of one's own as well."""
        measurements = self.model_copy()
        measurements._own = metric
        return measurements

    @property
    def main(self) -> str:
        """The name of the task's main score."""
        return next(iter(self.scored_by.scorer.formulas(self.truth)))

    def table(self, model: str) -> NDArray[np.float64]:
        """Return the answers of a model, or of a file of predictions: units × columns."""
        import numpy as np

        return np.asarray(self.answered()[model].answers, dtype=float)

    def answered(self) -> dict[str, ModelMeasurement | Predicted]:
        """Return all that has answers to the eval rows, by name, the models first."""
        return {**self.models, **self.predicted}

    def linear_table(self) -> NDArray[np.float64]:
        """Return the linear model's answers: units × columns. Only if there is one."""
        import numpy as np

        assert self.linear is not None
        return np.asarray(self.linear.answers, dtype=float)

    def right(self, model: str) -> NDArray[np.bool_]:
        """Return for each eval row whether a model answers it rightly."""
        return self.scored_by.scorer.correct(self.table(model), self.truth)

    def score(self, name: str, model: str) -> Interval:
        """Return a score of a model's answers with its interval; see ``scores.alone``."""
        return self.score_of(name, self.table(model))

    def score_of(self, name: str, answers: NDArray[np.float64]) -> Interval:
        """Return a score of any answers to the eval rows; see ``scores.alone``."""
        from rarefy.pipeline.measure.statistics import scores

        return scores.alone(self.scored_by, name, answers, self.truth, groups=self.groups)

    def compare(
        self, name: str, ours: NDArray[np.float64], theirs: NDArray[np.float64]
    ) -> Bootstrap:
        """Compare a score of two answers to the eval rows; see ``scores.compare``."""
        from rarefy.pipeline.measure.statistics import scores

        return scores.compare(self.scored_by, name, ours, theirs, self.truth, groups=self.groups)

    def is_truth(self, reference: str) -> bool:
        """Return whether a model's own answers are the truth, so that no test says anything.

        Without labels they are those of the recipe's model. The same model in another runtime
        misses a few.
        """
        return self.unlabelled and reference == self.name_of(recipe_parts.MODEL)

    def agreement(self, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Interval:
        """Return the share of units with the same answer; see ``scores.agreement``."""
        from rarefy.pipeline.measure.statistics import scores

        return scores.agreement(self.scored_by, ours, theirs, self.truth, groups=self.groups)

    def divergence(self, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Interval:
        """Return the mean divergence of our answers from theirs; see ``scores.divergence``."""
        from rarefy.pipeline.measure.statistics import scores

        return scores.divergence(self.scored_by, ours, theirs, groups=self.groups)

    def on(self, target: str | None) -> Measurements:
        """Return the measurements with a target's own answers, if it has any.

        Targets with one provider share them; while targets are timed, some have no latency yet.
        """
        timed = self.latency.get(target or "")
        for name, answers in self.elsewhere.items():
            other = self.latency.get(name)
            alike = timed and other and other.provider == timed.provider
            if name == target or alike:
                candidate = self.models[CANDIDATE].model_copy(update={"answers": answers})
                models = self.models | {CANDIDATE: candidate}
                return self.model_copy(update={"models": models})
        return self

    def part(self, blocks: Sequence[int], models: Sequence[str]) -> Measurements:
        """Return what some models predict for some blocks, without slices and timings.

        Args:
            blocks: Their places, in order.
            models: The names of models, or of files of predictions, that have predicted all blocks.
        """
        import numpy as np

        scorer = self.scored_by.scorer
        units = np.asarray(blocks)
        block_of_unit = scorer.block_of_unit(self.truth)
        if block_of_unit is not None:
            units = np.flatnonzero(np.isin(block_of_unit, blocks))
        retained = {}
        answered = self.answered()
        for name in models:
            model = answered[name]
            answers = [model.answers[unit] for unit in units]
            retained[name] = model.model_copy(update={"answers": answers})
        groups = [self.groups[block] for block in blocks] if self.groups else []
        changes = {
            "truth": scorer.part(self.truth, blocks),
            "groups": groups,
            "slices": {},
            "columns": {},
            "models": {name: retained[name] for name in models if name in self.models},
            "predicted": {name: retained[name] for name in models if name in self.predicted},
            "elsewhere": {},
            "latency": {},
            "throughput": {},
            "linear": None,
        }
        return self.model_copy(update=changes)

    def name_of(self, stage: str) -> str | None:
        """Return the name of the answers that represent a stage id, None if there are none."""
        name = self.aliases.get(stage, stage)
        return name if name in self.answered() else None
