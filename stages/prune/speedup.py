"""Pruning to a speed-up: as many units as the time allows, and a check of the time they take.

A table of times predicts how fast a model is, and its bundle is timed.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.stage import Context
from rarefy.pipeline.store.artifact import Metric
from rarefy.pipeline.terms.digests import value_sha256
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.terms.interval import Interval
from rarefy.stages.common.resume import Notes
from rarefy.stages.prune import latency_table, selection
from rarefy.stages.prune import layers as layer_search
from rarefy.stages.prune.latency_table import Table
from rarefy.stages.quantization.bundles import FLOAT, Finalists
from rarefy.stages.surgery import units as surgery
from rarefy.stages.surgery.units import Unit
from rarefy.stages.training import calibration_rows
from rarefy.stages.training.parameters import SEARCHES

log = logging.getLogger(__name__)

Ranked = Mapping[Unit, Sequence[Tensor]]
"""The importance (units,) of each part's units, by kind."""
Counts = dict[Unit, list[int]]
"""How many units each part keeps, by kind."""
Choose = Callable[[Counts], list[Tensor]]
"""Returns the units to keep, in the order of the forward pass, if parts keep so many."""

CLOSE = 0.03
"""By how much a measured speed-up may miss the recipe's without a second search."""
FAR = 0.1
"""By how much it may miss it without a warning."""


@dataclass
class Speedup:
    """A search for the heads and neurons to keep.

    Attributes:
        context: the run's context.
        origin: the input.
        network: the input without the layers that the recipe removes.
        tokenizer: its tokenizer.
        directory: that of the table of times.
        target: the speed-up of the recipe, as a factor.
        measured: the speed-up of the smaller model, once it is timed.
        missed: by what share it misses ``target``.
    """

    context: Context
    origin: Any
    network: Any
    tokenizer: Any
    directory: Path
    target: float
    measured: Interval | None = None
    missed: float = 0.0

    @cached_property
    def table(self) -> Table:
        """The table of times. Raises ModelError if they are of another model, or not of int8."""
        table = latency_table.load(self.directory)
        facts = latency_table.model_of(self.origin)
        for key, value in table.model.items():
            if facts[key] != value:
                raise ModelError(
                    f"prune.table: it is of a model with {key} {value}, but this one has "
                    f"{facts[key]}; put 'profile' right before"
                )
        if table.precision != "int8":
            raise ModelError(
                "prune.table: its times are of float models, but a speed-up is measured in "
                "int8; profile in int8"
            )
        for unit, curve in table.curves.items():
            counts = [part.count for part in surgery.parts(self.origin, unit)]
            most = max(counts)
            if most > curve.counts[-1]:
                raise ModelError(
                    f"prune.table: it ends at {curve.counts[-1]} {unit}, but a layer has "
                    f"{most}; put 'profile' right before"
                )
        return table

    @property
    def kinds(self) -> list[Unit]:
        """The units whose times are in the table, heads first."""
        units: tuple[Unit, ...] = ("heads", "neurons")
        return [unit for unit in units if unit in self.table.curves]

    def units(self, network: Any) -> list[dict[str, int]]:
        """Return the units in each layer of a network."""
        layers: list[dict[str, int]] = []
        for unit in self.kinds:
            for place, part in enumerate(surgery.parts(network, unit)):
                if place == len(layers):
                    layers.append({})
                layers[place][unit] = part.count
        return layers

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
        _ = self.table  # a wrong one is refused here, not taken for a speed-up out of reach
        batches: list[Any] = []
        whole = None
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

    def counts(self, importance: Ranked, speedup: float) -> Counts:
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

    def _measure(self, choose: Choose, counts: Counts) -> Interval:
        """Return the measured speed-up if parts keep so many units."""
        small = copy.deepcopy(self.network)
        parts = surgery.forward_order(surgery.parts(small, unit) for unit in self.kinds)
        surgery.keep_all(small, parts, choose(counts))
        return self.time(small, value_sha256(counts))

    def nearest(
        self, counts_for: Callable[[float], Counts], measure: Callable[[Counts], Interval]
    ) -> Counts:
        """Return the counts whose measured speed-up comes nearest to the recipe's.

        The smaller model is exported and timed together with the input, and the budget is corrected
        by what it missed.

        Args:
            counts_for: returns the counts for a speed-up, by the times in the table.
            measure: returns the measured speed-up of counts.

        Raises:
            ModelError: if the speed-up is out of reach.
        """
        nearest = self.notes.get("nearest", lambda: self._nearest(counts_for, measure))
        self.measured = Interval(*nearest["measured"])
        self.missed = nearest["missed"]
        if self.missed > FAR:
            log.warning(
                "prune: the closest to a speed-up of %.3g× has %.3g×, because the table's times "
                "predict the whole model poorly",
                self.target,
                self.measured.value,
            )
        counts: Counts = nearest["counts"]
        return counts

    @cached_property
    def notes(self) -> Notes:
        """The results of the search, so that a killed run goes on with the same model."""
        return Notes(self.context.work / "speedup.json")

    def _nearest(
        self, counts_for: Callable[[float], Counts], measure: Callable[[Counts], Interval]
    ) -> dict[str, Any]:
        """Return the counts that come nearest to the speed-up, and what was measured of it."""
        speedup, nearest = self.target, dict[str, Any]()
        for number in range(SEARCHES):
            try:
                counts = counts_for(speedup)
            except ModelError:
                if not nearest:
                    raise
                break  # the correction is out of reach
            self.context.progress(number, SEARCHES, "timing the smaller model")
            key = f"timed {value_sha256(counts)}"
            ratio = self.notes.get(key, lambda counts=counts: list(measure(counts)))
            measured = Interval(*ratio)
            missed = abs(measured.value / self.target - 1)
            if not nearest or missed < nearest["missed"]:
                nearest = {"missed": missed, "counts": counts, "measured": list(measured)}
            if missed <= CLOSE:
                break
            speedup = max(1.01, speedup * self.target / measured.value)
        return nearest

    def metrics(self) -> list[Metric]:
        """Return the measured speed-up, and by what share it misses the recipe's, if far."""
        if self.measured is None:
            return []
        metrics = [Metric(name="speedup", **self.measured._asdict())]
        if self.missed > FAR:
            metrics.append(Metric(name="speedup_missed", value=round(self.missed, 4)))
        return metrics

    def time(self, small: Any, digest: str) -> Interval:
        """Return the ratio of the input's median latency to a smaller network's, both in int8.

        ``digest``: of what decides the smaller network, for the name of its folder.
        """
        whole, bundle = self._whole
        finalists = self._finalists(f"smaller-{digest[:12]}", small)
        smaller = next(finalists.int8())
        timed = whole.time({FLOAT: bundle, "smaller": smaller})
        if timed.throttled:
            log.warning("prune: %s, so the speed-up that was measured may be off", timed.throttled)
        return timed.ratio(FLOAT, "smaller")

    @cached_property
    def _whole(self) -> tuple[Finalists, Path]:
        """The input and its bundle, made once: where int8 needs smoothing, that takes minutes."""
        whole = self._finalists("whole", self.origin)
        return whole, next(whole.int8())

    def _finalists(self, name: str, network: Any) -> Finalists:
        work = self.context.work / name
        context = replace(self.context, work=work)
        return Finalists(context, network.cpu(), self.tokenizer)
