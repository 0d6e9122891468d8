"""Calibration rows: a sample of a split, batched without padding."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from pipeline.stage import Context
from stages.parameters import CALIBRATION_BATCH, Row


def sample(context: Context, tokenizer: Any, count: int, name: str = "train") -> list[Row]:
    """Return ``count`` tokenized rows of a split with their targets (all if there are fewer).

    The seed determines the sample. Its order is random, so any prefix is a random sample too.
    """
    split = context.split(name)
    draw = random.Random(context.seed)  # noqa: S311
    chosen = draw.sample(range(len(split)), min(count, len(split)))
    return context.task.encoder.examples(tokenizer, split, chosen)


def batches(
    rows: Sequence[Row], device: str, size: int = CALIBRATION_BATCH
) -> Iterator[dict[str, Tensor]]:
    """Yield batches of rows whose lists have equal lengths.

    Every position then holds a real token: statistics over activations need no mask, and no time
    is spent on padding. ``rows`` may lie on disk: those of one batch are held at a time.
    """
    shapes = [_shape(row) for row in rows]
    ordered = sorted(range(len(shapes)), key=shapes.__getitem__)
    for _, group in groupby(ordered, key=shapes.__getitem__):
        same = list(group)
        for start in range(0, len(same), size):
            part = [rows[at] for at in same[start : start + size]]
            yield {key: torch.tensor([row[key] for row in part], device=device) for key in part[0]}


def _shape(row: Row) -> list[int]:
    return [len(value) for value in row.values() if isinstance(value, list)]
