"""Pruning to a share of a model's multiply-adds: heads and neurons compete by what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from pipeline.terms.errors import ModelError
from stages.latency_table import Choice, spend
from stages.surgery import Part, Unit, weight_of


def of_unit(part: Part) -> float:
    """Return the multiply-adds of one unit for each token: those of its rows and columns."""
    matrices = [weight_of(made.linear) for made in part.producers] + [weight_of(part.sink)]
    return sum(matrix.numel() for matrix in matrices) / part.count


def counts(
    importance: Mapping[Unit, Sequence[Tensor]],
    parts: Mapping[Unit, Sequence[Part]],
    share: float,
    steps: Mapping[Unit, int],
) -> dict[Unit, list[int]]:
    """Return how many units each part keeps if ``share`` of all their multiply-adds goes.

    The least importance is lost (``latency_table.spend``). ``steps``: of a part's counts, which are
    multiples of it. Raises ModelError if the least counts are too many.
    """
    choices = {
        unit: [
            _choice(values, of_unit(part), steps[unit])
            for values, part in zip(importance[unit], parts[unit], strict=True)
        ]
        for unit in importance
    }
    flat = [choice for unit in choices for choice in choices[unit]]
    whole = sum(float(choice.cost[-1]) for choice in flat)
    try:
        kept = spend(flat, (1 - share) * whole)
    except ModelError as error:
        most = 1 - sum(float(choice.cost[0]) for choice in flat) / whole
        raise ModelError(
            f"prune.macs: {share:.0%} is too much; heads and neurons have {most:.0%} to give, as "
            "each layer keeps some"
        ) from error
    found, at = dict[Unit, list[int]](), 0
    for unit, each in choices.items():
        found[unit] = kept[at : at + len(each)]
        at += len(each)
    return found


def _choice(importance: Tensor, cost: float, step: int) -> Choice:
    total = len(importance)
    possible = np.array([*range(min(step, total), total, step), total], np.int64)
    falling = np.concatenate([[0], np.cumsum(np.sort(importance.double().numpy()))])
    return Choice(possible, falling[total - possible], cost * possible)
