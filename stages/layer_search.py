"""Find the layers that a model needs least."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from pipeline.model import checkpoint, parts
from pipeline.stage import Context
from pipeline.stage.tasks import Task
from stages import surgery
from stages.notes import Notes

ROWS = 128
"""Rows that decide which layers to remove; few, as every candidate needs a forward pass."""


def least_needed(
    context: Context, network: Any, count: int, batches: list[dict[str, Tensor]]
) -> set[int]:
    """Choose ``count`` layers one by one, each time the one whose removal changes answers least.

    The first layer is not a candidate if the model cannot do without it.
    The change is measured as the mean divergence from the whole model's answers. What was measured
    is kept in ``context.work``, by the depth too: before a second search, a stage removes layers.
    """
    task, notes = context.task, Notes(context.work / "layers.json")
    layers = checkpoint.encoder_layers(network)
    first = int(parts.first_stays(network.config.to_dict()))
    whole = cache(lambda: _outputs(task, network, batches))

    def change(without: list[int]) -> float:
        """Return what the answers change if these layers go."""
        exact = whole()
        with surgery.skipped([layers[index] for index in without]):
            found = task.divergence(exact, _outputs(task, network, batches))
        return float(found.mean())

    gone: set[int] = set()
    for step in range(count):
        changes = {}
        for candidate in range(first, len(layers)):
            if candidate not in gone:
                without = sorted({*gone, candidate})
                key = f"{len(layers)} layers without {without}"
                changes[candidate] = notes.get(key, lambda without=without: change(without))
        gone.add(min(changes, key=changes.__getitem__))
        context.progress(step + 1, count, "layers")
    return gone


def _outputs(task: Task, network: Any, batches: list[dict[str, Tensor]]) -> Tensor:
    """Return the raw outputs of all batches: units × width."""
    with torch.no_grad():
        return torch.cat([task.outputs(network, batch) for batch in batches])
