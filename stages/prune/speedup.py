"""Pruning to a speed-up: as many units as the time allows, and a check of the time they take."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.terms.interval import Interval
from rarefy.stages.prune import layers as layer_search
from rarefy.stages.prune import selection
from rarefy.stages.surgery import units as surgery
from rarefy.stages.surgery.timed_search import TimedSearch
from rarefy.stages.surgery.units import Unit
from rarefy.stages.training import calibration_rows

Ranked = Mapping[Unit, Sequence[Tensor]]
"""The importance (units,) of each part's units, by kind."""
Choose = Callable[[dict[Unit, list[int]]], list[Tensor]]
"""Returns the units to keep, in the order of the forward pass, if parts keep so many."""


class Speedup(TimedSearch):
    """A search for the heads and neurons to keep."""

    stage: ClassVar[str] = "prune"

    def check(self) -> None:
        """Raise ModelError if the speed-up is out of reach, before anything is trained for it."""
        equal = {}
        for unit in self.kinds:
            layers = surgery.parts(self.network, unit)
            equal[unit] = [torch.zeros(part.count) for part in layers]
        self.counts(equal, self.target)

    def reach(self, *, layers_too: bool) -> None:
        """Remove the layers that are needed least until heads and neurons can give the rest.

        Raises ModelError if they cannot, or none may go.
        """
        batches, whole, _ = list[Any](), None, self.table
        while True:
            try:
                return self.check()
            except ModelError:
                depth = len(checkpoint.encoder_layers(self.network))
                if depth == 1 or not layers_too:
                    raise
            if not batches:
                batches = self._batches()
                task = self.context.task
                whole = layer_search.outputs(task, self.network, batches)
            gone = layer_search.least_needed(self.context, self.network, 1, batches, whole=whole)
            retained = [layer for layer in range(depth) if layer not in gone]
            surgery.keep_layers(self.network, retained)

    def _batches(self) -> list[Any]:
        """Return rows of dev, by whose predictions layers are compared."""
        count = layer_search.ROWS
        rows = calibration_rows.sample(self.context, self.tokenizer, count, "dev")
        return list(calibration_rows.batches(rows, self.context.device))

    def search(self, importance: Ranked, choose: Choose, part: float = 1) -> list[Tensor]:
        """Return the units to keep, one entry per part in the order of the forward pass.

        Args:
            importance: (units,) for each part, by kind.
            choose: returns which units are kept if parts keep so many.
            part: how much of the way to go, 1 for all; less is not timed.

        Raises:
            ModelError: if the speed-up is out of reach.
        """
        if part < 1:
            return choose(self.counts(importance, self.target**part))
        counts_for = partial(self.counts, importance)
        measure = partial(self._measure, choose)
        counts = self.nearest(counts_for, measure)
        return choose(counts)

    def counts(self, importance: Ranked, speedup: float) -> dict[Unit, list[int]]:
        """Return how many units each part keeps: the least importance lost for the speed-up."""
        choices: dict[Unit, list[selection.Choice]] = {}
        for unit, ranked in importance.items():
            choices[unit] = []
            for place, values in enumerate(ranked, 1):
                last = place == len(ranked)
                cost = partial(self._ms, unit, last=last)
                choice = selection.choice(values, unit, cost)
                choices[unit].append(choice)
        flat = selection.flatten(choices)
        units, left = self.units(self.origin), self.units(self.network)
        now = self.table.ms(units)
        rest = self.table.ms(left)
        for choice in flat:
            rest -= float(choice.cost[-1])
        try:
            return selection.spend(choices, now / speedup - rest)
        except ModelError as error:
            least = sum(float(choice.cost.min()) for choice in flat)
            most = now / (rest + least)
            raise ModelError(
                f"prune.speedup: {speedup:.3g}× is out of reach; fewer heads and neurons give "
                f"{most:.2f}× at most, so remove layers as well"
            ) from error

    def _ms(self, unit: Unit, counts: NDArray[np.int64], *, last: bool) -> NDArray[np.float64]:
        curve = self.table.curves[unit]
        times = [curve.ms(int(count), last=last) for count in counts]
        # Noise must not make fewer units look dearer than more.
        return np.maximum.accumulate(times)

    def _measure(self, choose: Choose, counts: dict[Unit, list[int]]) -> Interval:
        """Return the measured speed-up if parts keep so many units."""
        small = copy.deepcopy(self.network)
        parts = surgery.forward_order(surgery.parts(small, unit) for unit in self.kinds)
        surgery.keep_all(small, parts, choose(counts))
        return self.time(small, counts)
