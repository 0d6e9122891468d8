"""Low rank for a speed-up: ranks by the time that their products take."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, ClassVar

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.terms.interval import Interval
from rarefy.stages.factorize import svd, thin
from rarefy.stages.factorize.thin import Group
from rarefy.stages.surgery import units as surgery
from rarefy.stages.surgery.timed_search import TimedSearch

Ranks = list[int | None]


class Speedup(TimedSearch):
    """A search for ranks."""

    stage: ClassVar[str] = "factorize"

    def search(self, groups: list[Group]) -> Ranks:
        """Return the rank of each group. Raises ModelError if the speed-up is out of reach."""
        return self.nearest(partial(self.ranks, groups), partial(self._measure, groups))

    def ranks(self, groups: list[Group], speedup: float) -> Ranks:
        """Return the ranks that are predicted to lose least for a speed-up.

        A parameter takes the time that one of a feed-forward layer does, whose numbers of neurons
        the table has times of: in the last layer, of which a bundle may compute one token alone,
        less. The second product of a thin layer takes more than its parameters say, so the speed-up
        that is measured corrects this one.
        """
        prices = self._prices(groups)
        budget = 0.0
        for group, price in zip(groups, prices, strict=True):
            budget += price * group.parameters
        units = self.units(self.origin)
        now = self.table.ms(units)
        budget -= now * (1 - 1 / speedup)
        decompositions = [group.decomposition for group in groups]
        try:
            ranks = svd.choose_ranks(decompositions, budget, multiple=thin.RANKS, prices=prices)
        except ModelError as error:
            raise ModelError(
                f"factorize.speedup: {speedup:.3g}× is out of reach; of the time of the linear "
                f"layers, {error}; 'prune' goes further"
            ) from error
        return ranks

    def _prices(self, groups: list[Group]) -> list[float]:
        """Return the ms that a parameter of each group takes."""
        layers = checkpoint.encoder_layers(self.origin)
        in_last = set(layers[-1].modules())
        parameters = self._parameters_of_neuron()
        prices = []
        for group in groups:
            name = group.names[0]
            module = self.origin.get_submodule(name)
            ms = self._ms_of_neuron(last=module in in_last)
            prices.append(ms / parameters)
        return prices

    def _ms_of_neuron(self, *, last: bool) -> float:
        """Return the ms of a neuron, in the last layer or in another; at least 0."""
        curve = self.table.curves["neurons"]
        fewest, most = curve.counts[0], curve.counts[-1]
        ms = curve.ms(most, last=last)
        ms -= curve.ms(fewest, last=last)
        return max(0.0, ms) / (most - fewest)

    def _parameters_of_neuron(self) -> float:
        """Return the weights of a neuron, in the matrices that make it and that read it."""
        first = surgery.parts(self.origin, "neurons")[0]
        count = first.sink.weight.numel()
        for producer in first.producers:
            count += producer.linear.weight.numel()
        return float(count) / first.count

    def _measure(self, groups: list[Group], ranks: Ranks) -> Interval:
        """Return the measured speed-up of these ranks."""
        small: Any = copy.deepcopy(self.network)
        thin.replace(small, groups, ranks)
        return self.time(small, ranks)
