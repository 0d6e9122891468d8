"""What ``validate`` found: enough to judge any budget later without measuring again."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = "rarefy.measurements/1"
CANDIDATE = "candidate"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


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
    model, timed next to each other in random order. ``noise`` is the A/A ratio's 95 % interval.
    """

    samples: dict[str, list[list[float]]]
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
    latency: dict[str, Latency]
    samples: list[dict[str, str]] = Field(
        default_factory=list, description="the text of rows where candidate and reference differ"
    )
