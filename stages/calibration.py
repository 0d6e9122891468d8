"""Calibration rows: a sample of a split, batched without padding."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.model.batches import rows_of_equal_length, split_rows
from pipeline.stage import Context
from stages.parameters import CALIBRATION_BATCH, Row


def sample(context: Context, tokenizer: Any, count: int, name: str = "train") -> list[Row]:
    """Return ``count`` tokenized rows of a split with their targets (all if there are fewer).

    The seed determines the sample. Its order is random, so any prefix is a random sample too.
    """
    split = context.split(name)
    draw = random.Random(context.seed)  # noqa: S311
    few = min(count, len(split))
    chosen = draw.sample(range(len(split)), few)
    return context.task.encoder.examples(tokenizer, split, chosen)


def batches(
    rows: Sequence[Row], device: str, size: int = CALIBRATION_BATCH
) -> Iterator[dict[str, Tensor]]:
    """Yield batches of rows whose lists have equal lengths.

    Every position then holds a real token: statistics over activations need no mask, and no time
    is spent on padding. ``rows`` may lie on disk: those of one batch are held at a time.
    """
    shapes = [_shape(row) for row in rows]
    for _, places in rows_of_equal_length(shapes):
        for few in split_rows(places, size):
            part = [rows[place] for place in few]
            batch = {}
            for key in part[0]:
                values = [row[key] for row in part]
                batch[key] = torch.tensor(values, device=device)
            yield batch


def _shape(row: Row) -> list[int]:
    """Return the lengths of a row's lists."""
    return [len(value) for value in row.values() if isinstance(value, list)]
