"""What ``validate`` found: enough to judge any budget later without measuring again."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA: Final = "rarefy.measurements/1"
CANDIDATE = "candidate"


class _Record(BaseModel):
    # A model may answer NaN: it stays readable, and JSON has no word for it but a string.
    model_config = ConfigDict(extra="forbid", populate_by_name=True, ser_json_inf_nan="strings")


class ModelMeasurement(_Record):
    """One model: the candidate, or a reference in fused fp32 ONNX Runtime.

    ``probabilities`` is rows × labels on the eval split; ``size`` counts every file needed to
    answer, in bytes; ``memory`` is the peak resident set of a fresh process that loads and
    answers, less that of one with the same imports only, in bytes.
    """

    digest: str
    size: int
    parameters: int | None = None
    memory: int | None = None
    probabilities: list[list[float]]


class Latency(_Record):
    """Latencies on one target, in ms, batch 1, unpadded eval rows.

    ``samples[model][process]`` holds one process's calls; position i is the same row for every
    model, timed next to each other in random order; ``cpu`` is laid out alike. ``tokens`` goes
    through the processes' calls one after the other. ``noise`` is the 95 % interval of the A/A
    ratio: the baseline's median against its own.
    """

    samples: dict[str, list[list[float]]]
    cpu: dict[str, list[list[float]]] = Field(
        default_factory=dict, description="CPU ms of the calls"
    )
    tokenizer: dict[str, list[float]] = Field(default_factory=dict)
    tokens: list[int] = Field(default_factory=list, description="each call's length in tokens")
    noise: tuple[float, float] | None = None
    busy: list[str] = Field(default_factory=list, description="why the machine was not quiet")
    provider: str = ""
    threads: int = 1


class Measurements(_Record):
    """All that was measured, with the machine it was measured on."""

    schema_: Literal["rarefy.measurements/1"] = Field(default=SCHEMA, alias="schema")
    machine: dict[str, Any]
    task: str
    labels: list[str]
    truth: list[int]
    models: dict[str, ModelMeasurement]
    aliases: dict[str, str] = Field(
        default_factory=dict, description="stage id -> the model here that has the same weights"
    )
    latency: dict[str, Latency]
    samples: list[dict[str, str]] = Field(
        default_factory=list, description="the text of rows where candidate and reference differ"
    )

    @property
    def references(self) -> list[str]:
        """Names of the models that the candidate is compared with; the first is the teacher."""
        return [name for name in self.models if name != CANDIDATE]

    def name_of(self, stage: str) -> str | None:
        """Return the measured model that stands for a stage's id, None where there is none."""
        name = self.aliases.get(stage, stage)
        return name if name in self.models else None
