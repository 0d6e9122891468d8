"""Pruning to a share of a model's multiply-adds: heads and neurons compete by what they cost."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.prune import selection
from rarefy.stages.surgery.units import Part, Unit


def of_unit(part: Part) -> float:
    """Return the multiply-adds of one unit for each token: those of its rows and columns.

    Of a factorized layer, they are in the matrix that has the units; the other one stays.
    """
    made = [getattr(each.linear, "up", each.linear) for each in part.producers]
    read = getattr(part.sink, "down", part.sink)
    return sum(int(each.weight.numel()) for each in (*made, read)) / part.count


def of_part(part: Part) -> float:
    """Return the multiply-adds of a part's layers for each token, with what stays of them."""
    layers = [*(each.linear for each in part.producers), part.sink]
    return float(sum(int(each.numel()) for layer in layers for each in matrices(layer)))


def matrices(linear: Any) -> list[Tensor]:
    """Return the matrix of a linear layer, or both of a factorized one."""
    return [linear.down.weight, linear.up.weight] if hasattr(linear, "up") else [linear.weight]


def counts(
    importance: Mapping[Unit, Sequence[Tensor]],
    parts: Mapping[Unit, Sequence[Part]],
    budget: float,
) -> dict[Unit, list[int]]:
    """Return how many units each part keeps if their layers may take ``budget`` multiply-adds.

    The least importance is lost (``allocation.spend``). Raises ModelError if the least counts are
    too many.
    """
    choices = {
        unit: [
            selection.choice(values, unit, partial(operator.mul, of_unit(part)))
            for values, part in zip(importance[unit], parts[unit], strict=True)
        ]
        for unit in importance
    }
    least, most = (
        sum(float(each.cost[at]) for unit in choices for each in choices[unit]) for at in (0, -1)
    )
    total = sum(of_part(part) for unit in parts for part in parts[unit])
    try:
        return selection.spend(choices, budget - (total - most))
    except ModelError as error:
        raise ModelError(
            f"prune: {1 - budget / total:.0%} of the multiply-adds of heads and neurons is too "
            f"much; they have {(most - least) / total:.0%} to give, as each layer keeps some"
        ) from error
