"""Calibration rows: a sample of the training split, batched without padding."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from pipeline.stage import Context
from stages.parameters import CALIBRATION_BATCH


def sample(context: Context, tokenizer: Any, count: int) -> list[dict[str, Any]]:
    """Return ``count`` tokenized, labelled training rows (all if there are fewer).

    The seed determines the sample. Its order is random, so any prefix is a random sample too.
    """
    split = context.split("train")
    draw = random.Random(context.seed)  # noqa: S311
    chosen = draw.sample(range(len(split)), min(count, len(split)))
    rows = context.task.encode(tokenizer, split, chosen)
    labels = split.labels or [-100] * len(split)
    return [row | {"labels": labels[at]} for row, at in zip(rows, chosen, strict=True)]


def batches(
    rows: list[dict[str, Any]], device: str, size: int = CALIBRATION_BATCH
) -> Iterator[dict[str, Tensor]]:
    """Yield batches of rows of equal length.

    Every position then holds a real token: statistics over activations need no mask, and no time
    is spent on padding.
    """
    ordered = sorted(rows, key=lambda row: len(row["input_ids"]))
    for _, group in groupby(ordered, key=lambda row: len(row["input_ids"])):
        same = list(group)
        for start in range(0, len(same), size):
            part = same[start : start + size]
            yield {key: torch.tensor([row[key] for row in part], device=device) for key in part[0]}


def without_labels(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the batch without its labels: the model's own inputs."""
    return {key: value for key, value in batch.items() if key != "labels"}
