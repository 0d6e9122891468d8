"""What all training stages share: open a model, turn a split into rows, train."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.stage import Context
from rarefy.pipeline.store.artifact import Artifact, Kind
from rarefy.stages.training.parameters import TEACHER_BATCH, Loss, Row, Trained, Training

if TYPE_CHECKING:
    from rarefy.stages.training.rows import Rows

HEAD_SEED = 0
"""With which new heads are drawn."""
CHUNK = 1000
"""Rows that are tokenized at once."""
RATE = re.compile(r"dropout|pdrop|layerdrop")
"""In the names of numbers that modules drop by, such as BART's ``activation_dropout``."""


def prepare(context: Context) -> None:
    """Seed all generators, set the number of threads, and silence transformers."""
    import torch
    import transformers

    # peft calls functions that transformers 5 renamed; a user cannot act on the warning.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    transformers.set_seed(context.seed)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(context.threads)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Let glibc keep the memory that large tensors free; does nothing on other C libraries.

    Otherwise the kernel maps each step's tensors again, page by page, which takes a tenth of a
    step's time on two cores. What an earlier stage kept is given back first.
    """
    import ctypes

    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt, trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):
        return
    trim(0)
    for parameter, size in ((trim_threshold, 2**30), (mmap_threshold, 2**30)):
        mallopt(parameter, size)


def open_network(context: Context, artifact: Artifact) -> tuple[Any, Any]:
    """Return the model with the task's head, and its tokenizer.

    An encoder gets a new head. A checkpoint has one already; raises ModelError if it is for other
    labels or another task.
    """
    from rarefy.pipeline.model import checkpoint

    if artifact.kind is Kind.ENCODER:
        network = with_head(context, artifact.directory)
    else:
        network = checkpoint.load(artifact.directory)
        context.task.head.check(network, artifact.short)
    return network, checkpoint.load_tokenizer(artifact.directory)


def with_head(context: Context, directory: Path) -> Any:
    """Return the model in a folder with the task's head: its own, or a new one.

    New heads are drawn with one seed, whatever the stage's, so that ``merge`` can average
    fine-tunes of one model.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(HEAD_SEED)
        network = context.task.head.load(str(directory))
    if context.task.head.labels_of(read_config(directory)) is None:
        context.task.head.initialize(network, context.split("train"))
    return network


def read_config(directory: Path) -> dict[str, Any]:
    """Return the config.json in a folder."""
    config: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return config


def stop_dropout(network: Any) -> None:
    """Set the rate to 0 of every dropout layer, and of modules that drop by a number of their own.

    The config does not change.
    """
    from torch import nn

    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if RATE.search(name) and type(value) is float:
                setattr(module, name, 0.0)


def labelled_rows(context: Context, tokenizer: Any, *splits: Split, numbered: bool = False) -> Rows:
    """Tokenize splits, unpadded, into a file in ``context.work``; see ``Rows``.

    ``labels`` is the row's target, as the task's loss takes it. With ``numbered``, ``row`` is the
    index. Texts without targets that are read ``singly`` are there once in each split, e.g. a query
    with forty documents.
    """
    encode = context.task.encoder.examples
    return _tokenized(context, encode, tokenizer, splits, numbered, once=True)


def lessons(context: Context, tokenizer: Any, *splits: Split) -> Rows:
    """Tokenize splits as ``labelled_rows`` does, into rows for training without a teacher."""
    return _tokenized(context, context.task.encoder.training_rows, tokenizer, splits)


def _tokenized(
    context: Context,
    encode: Callable[[Any, Split, Sequence[int]], list[Row]],
    tokenizer: Any,
    splits: Sequence[Split],
    numbered: bool = False,
    once: bool = False,
) -> Rows:
    """Tokenize splits into a file, some rows at a time.

    Args:
        context: of the stage.
        encode: returns the rows of a split at some indices.
        tokenizer: of the network that reads the rows.
        splits: in the order of the rows.
        numbered: whether each row has its index as ``row``.
        once: whether a text without target, if the task reads texts ``singly``, is there once.
    """
    from rarefy.stages.training.rows import Rows

    rows = Rows(context.work, numbered=numbered)
    for split in splits:
        distinct = once and context.task.reader.singly and split.labels is None
        seen: set[bytes] = set()
        for start in range(0, len(split), CHUNK):
            end = min(start + CHUNK, len(split))
            part, places = split, range(start, end)
            if distinct:
                part = _unseen(split, places, seen)
                places = range(len(part))
            rows.extend(encode(tokenizer, part, places))
            if len(split) > CHUNK:
                context.progress(end, len(split), f"{split.name}: tokenizing")
    return rows


def texts_read_singly(split: Split) -> Iterator[str]:
    """Yield the texts that ``labelled_rows`` tokenizes, in its order, if they are read singly."""
    seen: set[bytes] = set()
    for start in range(0, len(split), CHUNK):
        places = range(start, min(start + CHUNK, len(split)))
        if split.labels is None:
            yield from _unseen(split, places, seen).texts
            continue
        yield from (split.texts[row] for row in places)
        if split.pairs is not None:
            yield from (split.pairs[row] for row in places)


def _unseen(split: Split, rows: range, seen: set[bytes]) -> Split:
    """Return the texts in rows of a split that are not in ``seen``, and add them to it."""
    candidates = [split.texts[row] for row in rows]
    if split.pairs is not None:
        candidates += [split.pairs[row] for row in rows]
    if split.negatives is not None:
        for row in rows:
            candidates += split.negatives[row]
    texts = []
    for text in candidates:
        digest = blake2b(text.encode(), digest_size=8).digest()
        if digest not in seen:
            seen.add(digest)
            texts.append(text)
    return Split(split.name, split.reference, split.sha256, texts, None, None)


def mean_loss(
    context: Context, tokenizer: Any, rows: Sequence[Row], loss: Loss
) -> Callable[[Any], float]:
    """Return ``judge(network)``: the mean of a loss over units, for a network in eval mode."""
    from rarefy.stages.training import loop as trainer

    return trainer.mean_loss(context, tokenizer, rows, loss, TEACHER_BATCH)


def train(
    context: Context,
    parameters: Training,
    network: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    loss: Loss,
    *,
    epochs: int | None = None,
    name: str = "training",
    judge: Callable[[Any], float] | None = None,
    patience: int | None = None,
) -> Trained:
    """Train ``network`` in place on ``rows`` with transformers' Trainer; move it to the CPU after.

    A killed run resumes from the last complete checkpoint under ``context.work/name``, with the
    same batches and random numbers as an uninterrupted run.

    Args:
        context: of the stage that trains.
        parameters: the stage, or the same parameters with other values.
        network: with the task's head, on the CPU.
        tokenizer: the network's.
        rows: as the network reads them.
        loss: of a batch.
        epochs: passes over the rows, instead of the stage's.
        name: of the folder of checkpoints.
        judge: returns a network's loss on other rows; the weights with the least are retained
            (``rarefy.stages.training.best_weights``).
        patience: with ``judge``, training ends after more epochs than this without a better one.

    Raises:
        RarefyError: if the loss becomes NaN or infinite.
    """
    from rarefy.stages.training.loop import fit

    return fit(
        context,
        parameters,
        network,
        tokenizer,
        rows,
        loss,
        epochs=epochs or parameters.epochs,
        directory=context.work / name,
        judge=judge,
        patience=patience,
    )
