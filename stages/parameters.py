"""The parameters that all training stages share, and what a training is given and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline.stage import Asked, Stage
from pipeline.stage.resources import PROCESS, Resources, Workload, weights
from pipeline.store.artifact import Metric
from stages import footprint

Row = dict[str, Any]
Loss = Callable[[Any, dict[str, Any]], Any]
"""``loss(model, batch) -> scalar tensor``; the batch holds whatever the rows hold, padded."""

TEACHER_BATCH = 32
"""Rows that a teacher answers at once."""
CALIBRATION_BATCH = 32
"""Rows of one length that are calibrated on at once."""
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True)
class Trained:
    """How a training went: mean loss over the last epoch, steps in all, step it went on from."""

    loss: float
    steps: int
    resumed_from: int

    def metric(self, name: str = "train_loss", split: str = "train") -> Metric:
        return Metric(name=name, split=split, value=round(self.loss, 6))


class Training(Stage):
    """Base of the stages that train: the knobs of AdamW (Loshchilov & Hutter 2019, 1711.05101)."""

    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "accelerate")

    epochs: int = Field(3, ge=1, le=1000, description="passes over the training rows")
    learning_rate: float = Field(5e-5, gt=0, lt=1, description="the highest rate, after warm-up")
    batch_size: int = Field(32, ge=1, le=4096, description="rows a step")
    weight_decay: float = Field(0.01, ge=0, le=1)
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the rate rises")
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = Field(
        "linear", description="how the learning rate goes after warm-up"
    )

    def resources(self, work: Workload) -> Resources:
        """Return what training all weights needs.

        Disk: the output (4·P), and checkpoints of weights and AdamW's averages. Memory: weights,
        gradients and averages (16·P), the tokenized rows, and a step's activations.
        """
        shape, length = work.shape, work.longest_of(self.reads)
        return Resources(
            disk=weights(shape) + footprint.checkpoints(shape),
            memory=PROCESS
            + footprint.training(shape)
            + footprint.tokenized(work, self.reads)
            + footprint.activations(shape, self.batch_size, length),
            shape=shape,
            effort=work.rows_of(self.reads) * self.epochs * shape.body,
        )

    def environment(self, asked: Asked) -> dict[str, Any]:
        """The same training rounds differently on a CPU that has bfloat16."""
        return {"cpu_bf16": cpu_has_bf16()}


def cpu_has_bf16() -> bool:
    """Return whether the CPU multiplies bfloat16 in hardware; elsewhere it is slower than fp32."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return False
    with cpuinfo.open() as file:
        for line in file:
            if line.startswith("flags"):
                return not BF16_FLAGS.isdisjoint(line.split())
    return False
