"""Pruning to a share of a model's multiply-adds: heads and neurons compete by what they cost."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor

from pipeline.terms.errors import ModelError
from stages import allocation
from stages.surgery import Part, Unit, weight_of


def of_unit(part: Part) -> float:
    """Return the multiply-adds of one unit for each token: those of its rows and columns."""
    matrices = [weight_of(made.linear) for made in part.producers] + [weight_of(part.sink)]
    return sum(matrix.numel() for matrix in matrices) / part.count


def counts(
    importance: Mapping[Unit, Sequence[Tensor]],
    parts: Mapping[Unit, Sequence[Part]],
    share: float,
) -> dict[Unit, list[int]]:
    """Return how many units each part keeps if ``share`` of all their multiply-adds goes.

    The least importance is lost (``allocation.spend``). Raises ModelError if the least counts are
    too many.
    """
    choices = {
        unit: [
            allocation.choice(values, unit, partial(operator.mul, of_unit(part)))
            for values, part in zip(importance[unit], parts[unit], strict=True)
        ]
        for unit in importance
    }
    least, most = (
        sum(float(each.cost[at]) for unit in choices for each in choices[unit]) for at in (0, -1)
    )
    try:
        return allocation.spend(choices, (1 - share) * most)
    except ModelError as error:
        raise ModelError(
            f"prune.macs: {share:.0%} is too much; heads and neurons have {1 - least / most:.0%} "
            "to give, as each layer keeps some"
        ) from error
