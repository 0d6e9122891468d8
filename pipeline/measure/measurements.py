"""What ``validate`` found: enough to judge any budget later without measuring again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.terms.interval import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCHEMA: Final = "rarefy.measurements/2"
CANDIDATE = "candidate"


class _Record(BaseModel):
    # A model may answer NaN: it stays readable, and JSON has no word for it but a string.
    model_config = ConfigDict(extra="forbid", populate_by_name=True, ser_json_inf_nan="strings")


class ModelMeasurement(_Record):
    """One model: the candidate, a reference in fused fp32 ONNX Runtime, or a tagged bundle.

    ``probabilities`` is rows × labels on the eval split; ``size`` counts every file needed to
    answer, in bytes; ``memory`` is the peak resident set of a fresh process that loads and
    answers, less that of one with the same imports only, in bytes; ``device_memory`` that of the
    GPU; ``cold_start`` the ms from the start of a fresh process to its first answer, one entry a
    process, entry i of every model from the same round.
    """

    digest: str
    size: int
    parameters: int | None = None
    memory: int | None = None
    device_memory: int | None = None
    cold_start: list[float] = Field(default_factory=list)
    probabilities: list[list[float]]


class Latency(_Record):
    """Latencies on one target, in ms, batch 1, unpadded eval rows.

    ``samples[model][process]`` holds one process's calls; position i is the same row for every
    model, timed next to each other in random order. ``cpu``, ``tokenizer`` (ms from text to
    feed, right before the call) and ``device`` (GPU only: ms with inputs and outputs in its
    memory) are laid out alike. ``tokens`` goes through the processes' calls in order. ``fixed``
    holds calls of rows of one length each: tokens -> model -> process. ``noise`` is the interval
    of the A/A ratio: the baseline's median against its own.

    Sampling may have stopped at any of ``looks`` looks at the data, so every interval that is read
    from it is at 1 − 0.05/looks (Bonferroni): at 95 % whenever it stopped.
    """

    samples: dict[str, list[list[float]]]
    cpu: dict[str, list[list[float]]] = Field(
        default_factory=dict, description="CPU ms of the calls"
    )
    tokenizer: dict[str, list[list[float]]] = Field(default_factory=dict)
    device: dict[str, list[list[float]]] = Field(default_factory=dict)
    fixed: dict[str, dict[str, list[list[float]]]] = Field(default_factory=dict)
    tokens: list[int] = Field(default_factory=list, description="each call's length in tokens")
    noise: tuple[float, float] | None = None
    busy: list[str] = Field(default_factory=list, description="why the machine was not quiet")
    throttled: str | None = Field(
        default=None, description="how the machine changed while it was timed"
    )
    looks: int = 1
    seconds: float = 0.0
    stopped: str = Field(default="", description="why no more was timed")
    provider: str = ""
    threads: int = 1

    def end_to_end(self, model: str) -> list[list[float]]:
        """Return a model's calls from text to logits: the tokenizer's ms and the model's."""
        pairs = zip(self.samples[model], self.tokenizer.get(model, []), strict=False)
        return [[a + b for a, b in zip(*process, strict=True)] for process in pairs]

    def percentile(self, model: str, percent: float, *, whole: bool = False) -> Interval:
        """Return a percentile of a model's calls in ms, with ``whole`` from text to logits."""
        from pipeline.measure.statistics import percentile_interval

        calls = self.end_to_end(model) if whole else self.samples[model]
        return percentile_interval(calls, percent, looks=self.looks)

    def ratio(self, over: str, under: str, percent: float = 50) -> Interval:
        """Return the ratio of a percentile of two models' calls."""
        from pipeline.measure.statistics import percentile_ratio

        return percentile_ratio(self.samples[over], self.samples[under], percent, looks=self.looks)


class Measurements(_Record):
    """All that was measured, with the machine it was measured on."""

    schema_: Literal["rarefy.measurements/2"] = Field(default=SCHEMA, alias="schema")
    machine: dict[str, Any]
    task: str
    labels: list[str]
    data: str = Field(default="", description="the sha256 of the eval split's file")
    truth: list[int]
    slices: dict[str, list[str]] = Field(
        default_factory=dict, description="slicing -> each eval row's part of it"
    )
    models: dict[str, ModelMeasurement]
    elsewhere: dict[str, list[list[float]]] = Field(
        default_factory=dict,
        description="target -> the candidate's answers, where another provider gives them",
    )
    aliases: dict[str, str] = Field(
        default_factory=dict, description="stage id -> the model here that has the same weights"
    )
    baselines: dict[str, str] = Field(
        default_factory=dict, description="the models here that are tags -> the tag's digest"
    )
    latency: dict[str, Latency]
    samples: list[dict[str, str]] = Field(
        default_factory=list, description="the text of rows where candidate and reference differ"
    )

    @property
    def references(self) -> list[str]:
        """Names of the models that the candidate is compared with; the first is the teacher."""
        return [name for name in self.models if name != CANDIDATE]

    def answers(self, model: str) -> NDArray[np.int64]:
        """Return the label that a model gives each eval row, -1 where its answer is no number."""
        import numpy as np

        from pipeline.stage import formulas

        return formulas.answers(np.asarray(self.models[model].probabilities, dtype=float))

    def right(self, model: str) -> NDArray[np.bool_]:
        """Return for each eval row whether a model's answer is the true label."""
        import numpy as np

        right: NDArray[np.bool_] = self.answers(model) == np.asarray(self.truth)
        return right

    def score(self, name: str, model: str) -> Interval:
        """Return a score of a model's answers with its interval; see ``scores.alone``."""
        import numpy as np

        from pipeline.measure import scores

        answers = np.asarray(self.models[model].probabilities, dtype=float)
        return scores.alone(name, answers, np.asarray(self.truth))

    def on(self, target: str | None) -> Measurements:
        """Return the measurements as a target has them: with its own answers, where it has any."""
        if target not in self.elsewhere:
            return self
        ours = self.models[CANDIDATE].model_copy(update={"probabilities": self.elsewhere[target]})
        return self.model_copy(update={"models": self.models | {CANDIDATE: ours}})

    def name_of(self, stage: str) -> str | None:
        """Return the measured model that stands for a stage's id, None where there is none."""
        name = self.aliases.get(stage, stage)
        return name if name in self.models else None
