"""The parameters that all training stages share, and the types that training takes and returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field, model_validator

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.stage import Context, Requirements, Stage
from rarefy.pipeline.store.artifact import Metric

Row = dict[str, Any]
Loss = Callable[[Any, dict[str, Any]], Any]
"""``loss(model, batch) -> scalar tensor``; the batch has the keys of the rows, padded."""

EXPORTING = (*Stage.libraries, "numpy", "onnx", "onnx_ir", "onnxscript", "onnxruntime")
"""The libraries of stages that export, and run what they exported."""
TEACHER_BATCH = 32
"""Rows per batch of a teacher's forward pass."""
CALIBRATION_BATCH = 32
"""Rows of one length per calibration batch."""
SEARCHES = 3
"""Searches for a speed-up at most: each corrects the budget by what the one before missed."""
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True)
class Trained:
    """The result of a training."""

    loss: float
    """The mean over the steps of the last epoch."""
    steps: int
    """The steps of the whole training."""
    resumed_from: int
    """The steps that an earlier, killed run had done."""
    judged: float | None = None
    """The loss of the final weights on other rows, if they were judged."""

    def metric(self, name: str = "train_loss", split: str = "train") -> Metric:
        return Metric(name=name, split=split, value=round(self.loss, 6))

    def metrics(self) -> list[Metric]:
        """Return the loss of training, and that on the development split if it was judged there."""
        metrics = [self.metric()]
        if self.judged is not None:
            metrics.append(Metric(name="loss", split="dev", value=round(self.judged, 6)))
        return metrics


class Training(Stage):
    """Base of the training stages: AdamW's parameters (Loshchilov & Hutter 2019, 1711.05101)."""

    libraries: ClassVar[tuple[str, ...]] = (*Stage.libraries, "accelerate")

    epochs: int = Field(
        default=3, ge=1, le=1000, description="Number of passes over the training rows"
    )
    learning_rate: float = Field(
        default=5e-5, gt=0, lt=1, description="Peak learning rate, after warm-up"
    )
    batch_size: int = Field(default=32, ge=1, le=4096, description="Rows per step")
    weight_decay: float = Field(
        default=0.01, ge=0, le=1, description="Weight decay of AdamW, on weight matrices"
    )
    warmup: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of the steps during which the learning rate rises",
    )
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = Field(
        default="linear", description="Schedule of the learning rate after warm-up"
    )

    def environment(self, requirements: Requirements) -> dict[str, Any]:
        """Return whether the CPU has bfloat16, which changes how training rounds."""
        return {"cpu_bf16": cpu_has_bf16()}


class Keeping(Training):
    """Base of the training stages that may keep other weights than the last."""

    keep: Literal["last", "best"] = Field(
        default="last",
        description="Weights to keep: the last, or those with the lowest loss on the "
        "development split, of an epoch or averaged over the last three tenths of "
        "the steps, if ``patience`` does not end the training before",
    )
    patience: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="Number of epochs to wait for a better one, with keep: best",
    )

    @model_validator(mode="after")
    def _waits_for_something(self) -> Self:
        if self.patience is not None and self.keep == "last":
            raise ValueError("'patience' needs 'keep: best'")
        return self

    @property
    def reads(self) -> frozenset[str]:
        """The training rows, and the development rows if the weights are chosen on them."""
        if self.keep == "best":
            return Training.reads | {"dev"}
        return Training.reads

    def judged_on(self, context: Context) -> list[Split]:
        """Return the development split if the best weights are kept, else nothing."""
        if self.keep == "best":
            return [context.split("dev")]
        return []


def changed(part: BaseModel, names: Iterable[str]) -> list[str]:
    """Return the parameters that have another value than by default.

    A default that was written down counts as not given: a recorded stage has all its fields.
    """
    defaults = type(part).model_fields
    return [name for name in names if getattr(part, name) != defaults[name].default]


def refuse_unread(part: BaseModel, names: Iterable[str], *readers: str) -> None:
    """Raise ValueError if a parameter is given, and none of those that make it be read.

    A reader that is written down as 0 is given: a sweep tries 0 as well.
    """
    unread = changed(part, names)
    if unread and part.model_fields_set.isdisjoint(readers):
        *most, last = map(repr, readers)
        needed = f"{', '.join(most)} or {last}" if most else last
        raise ValueError(f"{unread[0]!r} needs {needed}")


def cpu_has_bf16() -> bool:
    """Return True if the CPU multiplies bfloat16 in hardware; if not, fp32 is faster."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return False
    with cpuinfo.open() as file:
        for line in file:
            if line.startswith("flags"):
                return not BF16_FLAGS.isdisjoint(line.split())
    return False
