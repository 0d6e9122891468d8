"""What all training stages share: their parameters, how a model is opened, how rows are made."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from pipeline.artifact import Artifact, Kind, Metric
from pipeline.errors import ModelError
from pipeline.stage import Context, Stage

if TYPE_CHECKING:
    from pipeline.data import Split
    from pipeline.stage import Asked

Row = dict[str, Any]
Loss = Callable[[Any, dict[str, Any]], Any]
"""``loss(model, batch) -> scalar tensor``; the batch holds whatever the rows hold, padded."""

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


def prepare(context: Context) -> None:
    """Seed all generators, take the context's threads, keep transformers quiet.

    Comes before a model is loaded: a fresh head is drawn from the generators.
    """
    import torch
    import transformers

    # peft calls what transformers 5 has renamed: nothing that a user can act on.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    transformers.set_seed(context.seed)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(context.threads)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Let the C library keep what large tensors free, where it is glibc.

    Otherwise each step's tensors are fetched from the kernel anew, page by page: a tenth of the
    time of a step on two cores.
    """
    import ctypes

    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for parameter, size in ((trim_threshold, 2**30), (mmap_threshold, 2**30)):
        mallopt(parameter, size)


def open_network(context: Context, artifact: Artifact) -> tuple[Any, Any]:
    """Return the model with the task's head, and its tokenizer.

    An encoder gets a fresh head; a checkpoint has one, whose labels must be the recipe's.
    Raises ModelError where they are not.
    """
    from pipeline import checkpoint

    if artifact.kind is Kind.ENCODER:
        network = context.task.load_model(str(artifact.directory))
    else:
        network = checkpoint.load(artifact.directory)
        check_labels(network, context.task.labels, artifact.short)
    return network, checkpoint.load_tokenizer(artifact.directory)


def set_dropout(network: Any, share: float) -> None:
    """Set the share that every dropout layer drops while training; the config stays as it is."""
    from torch import nn

    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = share


def check_labels(network: Any, labels: tuple[str, ...], where: str) -> None:
    """Raise ModelError where a model's labels are not ``labels`` in their order."""
    config = network.config
    found = tuple(str(config.id2label.get(index)) for index in range(config.num_labels))
    if found != tuple(labels):
        raise ModelError(
            f"{where}: the model answers {', '.join(found)}; the data has {', '.join(labels)}"
        )


def labelled_rows(context: Context, tokenizer: Any, split: Split) -> list[Row]:
    """Tokenize a split, unpadded. ``labels`` is the class index, -100 where the split has none."""
    rows: list[Row] = [dict(row) for row in context.task.encode(tokenizer, split)]
    labels = split.labels if split.labels is not None else [-100] * len(rows)
    for row, label in zip(rows, labels, strict=True):
        row["labels"] = label
    return rows


def train(
    context: Context,
    parameters: Training,
    network: Any,
    tokenizer: Any,
    rows: list[Row],
    loss: Loss,
    *,
    epochs: int | None = None,
    name: str = "training",
) -> Trained:
    """Train ``network`` in place on ``rows`` through transformers' Trainer; it ends on the CPU.

    A killed run goes on from the last checkpoint that was wholly written under
    ``context.work/name``, with the same batches and the same random numbers as if nothing had
    happened. ``epochs`` overrides the stage's own.

    Raises RarefyError where the loss is no number any more.
    """
    from stages.trainer import fit

    return fit(
        context,
        parameters,
        network,
        tokenizer,
        rows,
        loss,
        epochs=epochs or parameters.epochs,
        directory=context.work / name,
    )
