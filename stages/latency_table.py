"""What heads and neurons cost on a machine: a table of times, and the cheapest way to spend them.

The model's layers are alike, so models of one and of two layers tell what a layer costs: their
difference is a layer in the middle, and the smaller one is all the rest, with a last layer of which
a bundle may compute less. Times between measured counts are interpolated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.terms.errors import ModelError

FILE = "latencies.json"
SCHEMA = "rarefy.latencies/1"
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
STEPS = 60
"""Halvings of the price."""

Kind = str
"""``heads`` or ``neurons``."""
Counts = Mapping[Kind, int]


@dataclass(frozen=True)
class Curve:
    """Median ms of models with one layer and with two, by a count of units in each layer."""

    counts: tuple[int, ...]
    one: tuple[float, ...]
    two: tuple[float, ...]

    def ms(self, count: int, *, last: bool) -> float:
        """Return the ms of a layer with that many units, to be compared with other counts only.

        ``last``: of the last layer, together with all that is in no layer.
        """
        between = np.array(self.one) if last else np.array(self.two) - np.array(self.one)
        return float(np.interp(count, self.counts, between))


@dataclass(frozen=True)
class Table:
    """A machine's times for a model. ``tokens``: the median length of the rows they are of."""

    machine: str
    threads: int
    tokens: int
    curves: Mapping[Kind, Curve]

    def ms(self, layers: Sequence[Counts]) -> float:
        """Return the ms of a model with these units in its layers."""
        whole = {kind: curve.counts[-1] for kind, curve in self.curves.items()}
        curve = next(iter(self.curves.values()))
        total = 0.0
        for place, counts in enumerate(layers):
            last = place == len(layers) - 1
            total += curve.ms(curve.counts[-1], last=last)
            for kind, each in self.curves.items():
                if kind in counts:
                    total += each.ms(counts[kind], last=last) - each.ms(whole[kind], last=last)
        return total

    def save(self, directory: Path) -> None:
        """Write the table as JSON."""
        curves = {kind: vars(curve) for kind, curve in self.curves.items()}
        value = {"schema": SCHEMA, **vars(self), "curves": curves}
        (directory / FILE).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def load(directory: Path) -> Table:
    """Read what ``save`` wrote. Raises ModelError if it is not there."""
    path = directory / FILE
    if not path.is_file():
        raise ModelError(f"prune.table: that stage wrote no {FILE}; 'profile' does")
    value = json.loads(path.read_text(encoding="utf-8"))
    curves = {
        kind: Curve(*(tuple(curve[name]) for name in ("counts", "one", "two")))
        for kind, curve in value["curves"].items()
    }
    return Table(value["machine"], value["threads"], value["tokens"], curves)


def grid(most: int, multiple: int) -> tuple[int, ...]:
    """Return counts to measure, spread from the least to ``most``, in multiples of ``multiple``."""
    made = {max(multiple, round(share * most / multiple) * multiple) for share in SHARES[:-1]}
    return tuple(sorted({min(count, most) for count in made} | {most}))


@dataclass(frozen=True)
class Choice:
    """The counts that one part may have, what each loses, and what each costs: rising counts.

    ``lost``: importance of the units that are removed. ``cost``: ms or another measure, which falls
    with fewer units.
    """

    counts: NDArray[np.int64]
    lost: NDArray[np.float64]
    cost: NDArray[np.float64]

    def at(self, price: float) -> int:
        """Return the place of the count that is best if a unit of the cost is worth ``price``."""
        return int(np.argmin(self.lost + price * self.cost))


def spend(choices: Sequence[Choice], budget: float) -> list[int]:
    """Return a count for each part: the least importance lost with all costs within the budget.

    The solution for one price, found by bisection (Lagrangian relaxation), is the best one for what
    it costs. Then parts get units back, the most important for their cost first, as long as the
    budget lasts. Raises ModelError if even the least counts exceed it.
    """
    least = sum(float(choice.cost.min()) for choice in choices)
    if least > budget:
        raise ModelError(f"at least {least:.3g} remain where {budget:.3g} are asked for")
    low, high = 0.0, 1.0
    while _cost(choices, high) > budget and high < 1e30:
        high *= 10
    for _ in range(STEPS):
        price = (low + high) / 2
        low, high = (low, price) if _cost(choices, price) <= budget else (price, high)
    places = [choice.at(high) for choice in choices]
    left = budget - _cost(choices, high)
    while True:
        gains = [
            (choice.lost[at] - choice.lost[at + 1], choice.cost[at + 1] - choice.cost[at], part)
            for part, (choice, at) in enumerate(zip(choices, places, strict=True))
            if at + 1 < len(choice.counts)
        ]
        fitting = [each for each in gains if each[1] <= left]
        if not fitting:
            return [int(c.counts[at]) for c, at in zip(choices, places, strict=True)]
        _, cost, part = max(fitting, key=lambda each: each[0] / max(each[1], 1e-9))
        places[part] += 1
        left -= cost


def _cost(choices: Sequence[Choice], price: float) -> float:
    return sum(float(choice.cost[choice.at(price)]) for choice in choices)
