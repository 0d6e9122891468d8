"""Selection: how many units each part keeps, and which, within a budget of what they cost.

The budget is a number of units, of multiply-adds, or of milliseconds.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rarefy.pipeline.terms.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from rarefy.stages.surgery.units import Part, Unit

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
    """Return the counts that a part may have.

    Args:
        importance: (units,), of each of its units, of which the least important go.
        unit: the kind of its units.
        cost: returns what each of some counts costs.
    """
    step, total = MULTIPLES[unit], len(importance)
    first = min(step, total)
    counts = np.array([*range(first, total, step), total], np.int64)
    values = importance.double().numpy()
    rising = np.cumsum(np.sort(values))
    lost = np.concatenate([[0], rising])
    return Choice(counts, lost[total - counts], cost(counts))


def spend(choices: Mapping[Unit, Sequence[Choice]], budget: float) -> dict[Unit, list[int]]:
    """Return a count for each part: the least importance lost with all costs within the budget.

    The solution for one price, found by bisection (Lagrangian relaxation), is the best one for what
    it costs. Then parts get units back, the most important for their cost first, as long as the
    budget lasts. Raises ModelError if even the least counts exceed it.
    """
    flat = flatten(choices)
    price = _lowest_price(flat, budget)
    places = [part.at(price) for part in flat]
    left = budget - _cost(flat, price)
    _restore(flat, places, left)
    remaining = iter(zip(flat, places, strict=True))
    counts: dict[Unit, list[int]] = {}
    for unit, parts in choices.items():
        counts[unit] = []
        for _ in parts:
            part, place = next(remaining)
            counts[unit].append(int(part.counts[place]))
    return counts


def flatten(choices: Mapping[Unit, Sequence[Choice]]) -> list[Choice]:
    """Return the choices of all parts, one kind of units after another."""
    flat: list[Choice] = []
    for parts in choices.values():
        flat.extend(parts)
    return flat


def _lowest_price(choices: Sequence[Choice], budget: float) -> float:
    """Return the lowest price of a unit of cost at which all choices are within the budget."""
    least = sum(float(choice.cost.min()) for choice in choices)
    if least > budget:
        raise ModelError(f"at least {least:.3g} remain where {budget:.3g} are asked for")
    low, high = 0.0, 1.0
    while _cost(choices, high) > budget and high < 1e30:
        high *= 10
    for _ in range(HALVINGS):
        price = (low + high) / 2
        if _cost(choices, price) <= budget:
            high = price
        else:
            low = price
    return high


def _restore(choices: Sequence[Choice], places: list[int], left: float) -> None:
    """Raise places in turn while ``left`` lasts, the most importance for its cost first."""
    while True:
        best, best_rate, price = -1, 0.0, 0.0
        for part, choice in enumerate(choices):
            place = places[part]
            if place + 1 == len(choice.counts):
                continue
            cost = choice.cost[place + 1] - choice.cost[place]
            if cost > left:
                continue
            gain = choice.lost[place] - choice.lost[place + 1]
            rate = gain / max(cost, 1e-9)
            if best < 0 or rate > best_rate:
                best, best_rate, price = part, rate, cost
        if best < 0:
            return
        places[best] += 1
        left -= price


def _cost(choices: Sequence[Choice], price: float) -> float:
    """Return the cost of all choices at a price."""
    places = [choice.at(price) for choice in choices]
    costs = [float(choice.cost[place]) for choice, place in zip(choices, places, strict=True)]
    return sum(costs)


def multiply_adds_of_unit(part: Part) -> float:
    """Return the multiply-adds of one unit for each token: those of its rows and columns.

    Of a factorized layer, they are in the matrix that has the units; the other one stays.
    """
    reader = getattr(part.sink, "down", part.sink)
    total = int(reader.weight.numel())
    for producer in part.producers:
        linear = producer.linear
        total += int(getattr(linear, "up", linear).weight.numel())
    return total / part.count


def multiply_adds_of_part(part: Part) -> float:
    """Return the multiply-adds of a part's layers for each token, with what stays of them."""
    total = 0
    for layer in (*(producer.linear for producer in part.producers), part.sink):
        for matrix in matrices(layer):
            total += int(matrix.numel())
    return float(total)


def matrices(linear: Any) -> list[Tensor]:
    """Return the matrix of a linear layer, or both of a factorized one."""
    if hasattr(linear, "up"):
        return [linear.down.weight, linear.up.weight]
    return [linear.weight]


def counts_for_multiply_adds(
    importance: Mapping[Unit, Sequence[Tensor]],
    parts: Mapping[Unit, Sequence[Part]],
    budget: float,
) -> dict[Unit, list[int]]:
    """Return how many units each part keeps if their layers may take ``budget`` multiply-adds.

    Args:
        importance: (units,) for each part, by kind.
        parts: the parts, by kind.
        budget: multiply-adds of all these parts' layers for each token.

    Raises:
        ModelError: if the least counts are too many.
    """
    choices: dict[Unit, list[Choice]] = {}
    total = 0.0
    for unit, ranked in importance.items():
        choices[unit] = []
        for values, part in zip(ranked, parts[unit], strict=True):
            cost = partial(operator.mul, multiply_adds_of_unit(part))
            choices[unit].append(choice(values, unit, cost))
            total += multiply_adds_of_part(part)
    flat = flatten(choices)
    least = sum(float(part.cost[0]) for part in flat)
    most = sum(float(part.cost[-1]) for part in flat)
    try:
        return spend(choices, budget - (total - most))
    except ModelError as error:
        raise ModelError(
            f"prune: {1 - budget / total:.0%} of the multiply-adds of heads and neurons is too "
            f"much; at most {(most - least) / total:.0%} can be removed, because every layer keeps "
            "at least one head and some neurons"
        ) from error


def keep_counts(
    importance: Sequence[Tensor], places: int, *, least: int, multiple: int = 1
) -> list[int]:
    """Return how many units each part keeps when a global ranking keeps ``places`` of them.

    Every part keeps its ``least`` best units; the others compete across all parts. Counts are then
    rounded to multiples of ``multiple``.
    """
    ranked: list[tuple[float, int]] = []
    counts = []
    for part, values in enumerate(importance):
        falling = sorted(values.tolist(), reverse=True)
        fixed = min(least, len(falling))
        counts.append(fixed)
        for value in falling[fixed:]:
            ranked.append((value, part))
    ranked.sort(key=lambda entry: (-entry[0], entry[1]))
    free = max(0, places - sum(counts))
    for _, part in ranked[:free]:
        counts[part] += 1
    rounded = []
    for count, values in zip(counts, importance, strict=True):
        rounded.append(_rounded(count, multiple, len(values)))
    return rounded


def _rounded(count: int, multiple: int, greatest: int) -> int:
    if count == greatest:
        return count
    nearest = max(1, round(count / multiple)) * multiple
    return min(greatest, nearest)


def best(importance: Tensor, count: int) -> Tensor:
    """Return the indices of the ``count`` most important units, in rising order."""
    falling = importance.argsort(descending=True, stable=True)
    return falling[:count].sort().values
