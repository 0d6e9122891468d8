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

    ``able``: the layers that may go, ``count``: how many of them do, ``left``: those that have not
    gone; all as the whole network counts them. ``rows`` decide which are needed least.
    """

    context: Context
    network: Any
    rows: list[Row]
    able: Collection[int]
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
        able = {at for at, layer in enumerate(self.left) if layer in self.able}
        gone = able
        if more < len(able):
            batches = list(calibration.batches(self.rows, self.context.device))
            gone = least_needed(self.context, self.network, more, batches, able)
        kept = [at for at in range(len(self.left)) if at not in gone]
        surgery.keep_layers(self.network, kept)
        self.left = [self.left[at] for at in kept]
        self.gone += more
        return kept


def least_needed(
    context: Context,
    network: Any,
    count: int,
    batches: list[dict[str, Tensor]],
    able: Collection[int] | None = None,
    whole: Tensor | None = None,
) -> set[int]:
    """Choose ``count`` layers one by one, each time the one whose removal changes answers least.

    ``able``: the candidates; None: all, without the first if the model cannot do without it.
    The change is measured as the mean divergence from ``whole``, the answers of the whole model; by
    default the network's own as it is now. What was measured is kept in ``context.work``, by the
    depth too: before another search, a stage removes layers.
    """
    task, notes = context.task, Notes(context.work / "layers.json")
    layers = checkpoint.encoder_layers(network)
    first = int(parts.first_stays(network.config.to_dict()))
    origin = cache(lambda: outputs(task, network, batches) if whole is None else whole)

    def change(without: list[int]) -> float:
        """Return what the answers change if these layers go."""
        exact = origin()
        with surgery.skipped([layers[index] for index in without]):
            found = task.objective.divergence(exact, outputs(task, network, batches))
        return float(found.mean())

    gone: set[int] = set()
    for step in range(count):
        changes = {}
        for candidate in range(first, len(layers)):
            if candidate not in gone and (able is None or candidate in able):
                without = sorted({*gone, candidate})
                key = f"{len(layers)} layers without {without}"
                changes[candidate] = notes.get(key, lambda without=without: change(without))
        gone.add(min(changes, key=changes.__getitem__))
        context.progress(step + 1, count, "layers")
    return gone


def outputs(task: Task, network: Any, batches: list[dict[str, Tensor]]) -> Tensor:
    """Return the raw outputs of all batches: units × width."""
    with torch.no_grad():
        return torch.cat([task.head.outputs(network, batch) for batch in batches])
