"""Find the layers that a model needs least, and remove them."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from pipeline.model import checkpoint, parts
from pipeline.stage import Context
from pipeline.stage.tasks import Task
from stages import calibration, surgery
from stages.notes import Notes
from stages.parameters import Row

ROWS = 128
"""Rows that decide which layers to remove; few, as every candidate needs a forward pass."""


@dataclass
class Removal:
    """The layers that go from a network, in steps or at once.

    Attributes:
        context: the run's context.
        network: the network, from which layers are removed in place.
        rows: decide which layers are needed least.
        candidates: the layers that may go, as the whole network counts them.
        count: how many of them go.
        left: the layers that have not gone, as the whole network counts them.
        gone: how many have gone.
    """

    context: Context
    network: Any
    rows: list[Row]
    candidates: Collection[int]
    count: int
    left: list[int]
    gone: int = 0

    def step(self, share: float) -> list[int]:
        """Remove layers in place until this share of all that go has gone.

        Returns the places of the layers that stay, as they were before the step.
        """
        more = math.ceil(share * self.count) - self.gone
        if more <= 0:
            return list(range(len(self.left)))
        gone = {place for place, layer in enumerate(self.left) if layer in self.candidates}
        if more < len(gone):
            batches = list(calibration.batches(self.rows, self.context.device))
            gone = least_needed(self.context, self.network, more, batches, gone)
        retained = [place for place in range(len(self.left)) if place not in gone]
        surgery.keep_layers(self.network, retained)
        self.left = [self.left[place] for place in retained]
        self.gone += more
        return retained


def least_needed(
    context: Context,
    network: Any,
    count: int,
    batches: list[dict[str, Tensor]],
    candidates: Collection[int] | None = None,
    whole: Tensor | None = None,
) -> set[int]:
    """Choose ``count`` layers one by one, each time the one whose removal changes answers least.

    The changes are notes in ``context.work``, by the depth too: before another search, a stage
    removes layers.

    Args:
        context: the run's context.
        network: the network, which does not change.
        count: how many layers to choose.
        batches: unpadded rows.
        candidates: the layers to choose from; None: all, without the first if the model cannot do
            without it.
        whole: (units, width), the raw outputs of the whole model, from which the mean divergence
            is measured; None: the network's own as it is now.
    """
    task, notes = context.task, Notes(context.work / "layers.json")
    layers = checkpoint.encoder_layers(network)
    start = int(parts.first_stays(network.config.to_dict()))
    candidates = range(start, len(layers)) if candidates is None else candidates

    @cache
    def exact() -> Tensor:
        return outputs(task, network, batches) if whole is None else whole

    def change(without: list[int]) -> float:
        """Return the divergence of the answers if these layers go."""
        reference = exact()
        with surgery.skipped([layers[index] for index in without]):
            divergence = task.objective.divergence(reference, outputs(task, network, batches))
        return float(divergence.mean())

    gone: set[int] = set()
    for step in range(count):
        changes = {}
        for layer in range(start, len(layers)):
            if layer in gone or layer not in candidates:
                continue
            without = sorted({*gone, layer})
            key = f"{len(layers)} layers without {without}"
            changes[layer] = notes.get(key, lambda without=without: change(without))
        gone.add(min(changes, key=changes.__getitem__))
        context.progress(step + 1, count, "layers")
    return gone


def outputs(task: Task, network: Any, batches: list[dict[str, Tensor]]) -> Tensor:
    """Return the raw outputs of all batches: (units, width)."""
    with torch.no_grad():
        return torch.cat([task.head.outputs(network, batch) for batch in batches])
