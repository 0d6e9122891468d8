"""Search for a network with a speed-up: a table of times predicts it, and a bundle is timed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from rarefy.pipeline.stage import Context
from rarefy.pipeline.store.artifact import Metric
from rarefy.pipeline.terms.digests import value_sha256
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.terms.interval import Interval
from rarefy.stages.common.resume import Notes
from rarefy.stages.quantization.bundles import FLOAT, Finalists
from rarefy.stages.surgery import latency_table
from rarefy.stages.surgery import units as surgery
from rarefy.stages.surgery.latency_table import Table
from rarefy.stages.surgery.units import Unit
from rarefy.stages.training.parameters import SEARCHES

log = logging.getLogger(__name__)
Shape = TypeVar("Shape")
"""What decides how a network becomes smaller, as JSON: numbers of units, or ranks."""

CLOSE = 0.03
"""By how much a measured speed-up may miss the recipe's without a second search."""
FAR = 0.1
"""By how much it may miss it without a warning."""


@dataclass
class TimedSearch:
    """One search.

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
    stage: ClassVar[str]
    """The name of the stage, for messages."""

    @cached_property
    def table(self) -> Table:
        """The table of times. Raises ModelError if they are of another model, or not of int8."""
        table = latency_table.load(self.directory, self.stage)
        shape = latency_table.model_of(self.origin)
        for key, value in table.model.items():
            if shape[key] != value:
                raise ModelError(
                    f"{self.stage}.table: it is of a model with {key} {value}, but this one has "
                    f"{shape[key]}; put 'profile' right before"
                )
        if table.precision != "int8":
            raise ModelError(
                f"{self.stage}.table: its times are of float models, but a speed-up is measured in "
                "int8; profile in int8"
            )
        for unit, curve in table.curves.items():
            counts = [part.count for part in surgery.parts(self.origin, unit)]
            most = max(counts)
            if most > curve.counts[-1]:
                raise ModelError(
                    f"{self.stage}.table: it ends at {curve.counts[-1]} {unit}, but a layer has "
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

    def nearest(
        self, shape_for: Callable[[float], Shape], measure: Callable[[Shape], Interval]
    ) -> Shape:
        """Return the shape whose measured speed-up comes nearest to the recipe's.

        The smaller model is exported and timed together with the input, and the budget is corrected
        by what it missed.

        Args:
            shape_for: returns the shape for a speed-up, by the times in the table.
            measure: returns the measured speed-up of a shape.

        Raises:
            ModelError: if the speed-up is out of reach.
        """
        nearest = self.notes.get("found", lambda: self._nearest(shape_for, measure))
        self.measured = Interval(*nearest["measured"])
        self.missed = nearest["missed"]
        if self.missed > FAR:
            log.warning(
                "%s: the closest to a speed-up of %.3g× has %.3g×, because the table's times "
                "predict the whole model poorly",
                self.stage,
                self.target,
                self.measured.value,
            )
        shape: Shape = nearest["shape"]
        return shape

    @cached_property
    def notes(self) -> Notes:
        """The results of the search, so that a killed run goes on with the same model."""
        return Notes(self.context.work / "speedup.json")

    def _nearest(
        self, shape_for: Callable[[float], Shape], measure: Callable[[Shape], Interval]
    ) -> dict[str, Any]:
        """Return the shape that comes nearest to the speed-up, and what was measured of it."""
        speedup, nearest = self.target, dict[str, Any]()
        for number in range(SEARCHES):
            try:
                shape = shape_for(speedup)
            except ModelError:
                if not nearest:
                    raise
                break  # the correction is out of reach
            self.context.progress(number, SEARCHES, "timing the smaller model")
            key = f"timed {value_sha256(shape)}"
            ratio = self.notes.get(key, lambda shape=shape: list(measure(shape)))
            measured = Interval(*ratio)
            missed = abs(measured.value / self.target - 1)
            if not nearest or missed < nearest["missed"]:
                nearest = {"missed": missed, "shape": shape, "measured": list(measured)}
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

    def time(self, small: Any, shape: Any) -> Interval:
        """Return the ratio of the input's median latency to a smaller network's, both in int8."""
        digest = value_sha256(shape)
        whole, bundle = self._whole
        finalists = self._finalists(f"smaller-{digest[:12]}", small)
        smaller = next(finalists.int8())
        timed = whole.time({FLOAT: bundle, "smaller": smaller})
        if timed.throttled:
            log.warning(
                "%s: %s, so the speed-up that was measured may be off", self.stage, timed.throttled
            )
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
