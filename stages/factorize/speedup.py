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
        linear = 0.0
        for group, price in zip(groups, prices, strict=True):
            linear += price * group.parameters
        now = self.table.ms(self.units(self.origin))
        budget = linear - now * (1 - 1 / speedup)
        decompositions = [group.decomposition for group in groups]
        try:
            return svd.choose_ranks(decompositions, budget, multiple=thin.RANKS, prices=prices)
        except ModelError as error:
            raise ModelError(
                f"factorize.speedup: {speedup:.3g}× is out of reach; of the time of the linear "
                f"layers, {error}; 'prune' goes further"
            ) from error

    def _prices(self, groups: list[Group]) -> list[float]:
        """Return the ms that a parameter of each group takes."""
        curve = self.table.curves["neurons"]
        first = surgery.parts(self.origin, "neurons")[0]
        layers = checkpoint.encoder_layers(self.origin)
        weights = [producer.linear.weight for producer in first.producers] + [first.sink.weight]
        per_neuron = sum(weight.numel() for weight in weights) / first.count
        span = per_neuron * (curve.counts[-1] - curve.counts[0])
        prices = []
        for group in groups:
            module = self.origin.get_submodule(group.names[0])
            last = module in set(layers[-1].modules())
            most, least = (curve.ms(curve.counts[at], last=last) for at in (-1, 0))
            prices.append(max(0.0, most - least) / span)
        return prices

    def _measure(self, groups: list[Group], ranks: Ranks) -> Interval:
        """Return the measured speed-up of these ranks."""
        small: Any = copy.deepcopy(self.network)
        thin.replace(small, groups, ranks)
        return self.time(small, ranks)
