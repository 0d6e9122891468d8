"""What all training stages do: open a model, make rows of a split, train."""

from __future__ import annotations

import warnings
from typing import Any

from pipeline.stage import Context
from pipeline.stage.data import Split
from pipeline.store.artifact import Artifact, Kind
from pipeline.terms.errors import ModelError
from stages.parameters import Loss, Row, Trained, Training


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
    from pipeline.model import checkpoint

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
    names = tuple(str(config.id2label.get(index)) for index in range(config.num_labels))
    if names != tuple(labels):
        raise ModelError(
            f"{where}: the model answers {', '.join(names)}; the data has {', '.join(labels)}"
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
