"""Find the layers that a model needs least."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline.model import checkpoint, parts
from pipeline.stage.tasks import Task
from pipeline.terms.progress import Progress
from stages import surgery

ROWS = 128
"""Rows that decide which layers to remove; few, as every candidate needs a forward pass."""


def least_needed(
    task: Task, network: Any, count: int, batches: list[dict[str, Tensor]], progress: Progress
) -> set[int]:
    """Choose ``count`` layers one by one, each time the one whose removal changes answers least.

    The first layer is not a candidate if the model cannot do without it.
    The change is measured as the mean divergence from the whole model's answers.
    """
    layers = checkpoint.encoder_layers(network)
    first = int(parts.first_stays(network.config.to_dict()))
    whole = _outputs(task, network, batches)
    gone: set[int] = set()
    for step in range(count):
        change = {}
        for candidate in range(first, len(layers)):
            if candidate not in gone:
                with surgery.skipped([layers[index] for index in (*gone, candidate)]):
                    found = task.divergence(whole, _outputs(task, network, batches))
                change[candidate] = float(found.mean())
        gone.add(min(change, key=change.__getitem__))
        progress(step + 1, count, "layers")
    return gone


def _outputs(task: Task, network: Any, batches: list[dict[str, Tensor]]) -> Tensor:
    """Return the raw outputs of all batches: units × width."""
    with torch.no_grad():
        return torch.cat([task.outputs(network, batch) for batch in batches])
