"""How many units each part keeps: the least importance lost within a budget of what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rarefy.pipeline.terms.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from rarefy.stages.surgery.units import Unit

MULTIPLES: Mapping[Unit, int] = {"heads": 1, "neurons": 16}
"""A layer keeps a multiple of so many units. The int8 kernels of AVX-512 and AMX work on tiles of
16 columns and pad the rest, so a width in between costs as much and holds less."""
HALVINGS = 60
"""Halvings of the price."""


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


def choice(
    importance: Tensor, unit: Unit, cost: Callable[[NDArray[np.int64]], NDArray[np.float64]]
) -> Choice:
    """Return the counts that a part may have; ``cost`` returns what each of some counts costs.

    ``importance``: of each of its units, of which the least important go.
    """
    step, total = MULTIPLES[unit], len(importance)
    counts = np.array([*range(min(step, total), total, step), total], np.int64)
    falling = np.concatenate([[0], np.cumsum(np.sort(importance.double().numpy()))])
    return Choice(counts, falling[total - counts], cost(counts))


def spend(choices: Mapping[Unit, Sequence[Choice]], budget: float) -> dict[Unit, list[int]]:
    """Return a count for each part: the least importance lost with all costs within the budget.

    The solution for one price, found by bisection (Lagrangian relaxation), is the best one for what
    it costs. Then parts get units back, the most important for their cost first, as long as the
    budget lasts. Raises ModelError if even the least counts exceed it.
    """
    counts = iter(_spend([each for unit in choices for each in choices[unit]], budget))
    return {unit: [next(counts) for _ in parts] for unit, parts in choices.items()}


def _spend(choices: Sequence[Choice], budget: float) -> list[int]:
    least = sum(float(choice.cost.min()) for choice in choices)
    if least > budget:
        raise ModelError(f"at least {least:.3g} remain where {budget:.3g} are asked for")
    low, high = 0.0, 1.0
    while _cost(choices, high) > budget and high < 1e30:
        high *= 10
    for _ in range(HALVINGS):
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
