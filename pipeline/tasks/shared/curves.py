"""One label against the rest: what is above each of its rows if rows are ranked by probability."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rarefy.pipeline.tasks.shared.formulas import Floats, Labels

Curve = Callable[[Floats], tuple[Floats, Floats]]
"""Maps row weights (rows × draws) to two tables of values × draws.

They hold the weight of positive rows at each distinct value, and of all rows down to it. Only
values of positive rows are there, because recall changes at no other; then all rows.
"""


def curve(values: Floats, truth: Labels) -> Curve:
    """Return the curve of a label from its values and 0 or 1 of each row.

    The rows between two values are summed by a sparse matrix of values × rows, for all draws of a
    row at once: to gather each draw's weights in the order of the values takes ten times as long.
    """
    from scipy.sparse import csr_array

    order = np.argsort(-values, kind="stable")
    true = order[truth[order] == 1]
    distinct = np.unique(-values[true])  # the highest first

    def sums(rows: Labels) -> Any:
        """Return what sums rows between two of the values: (values + 1, all rows)."""
        count = len(rows)
        ends = np.searchsorted(-values[rows], distinct, "right")
        bounds = np.concatenate([[0], ends, [count]])
        shape = (len(ends) + 1, len(order))
        ones = np.ones(count)
        return csr_array((ones, rows, bounds), shape=shape)

    positives, all_rows = sums(true), sums(order)

    def of_weights(by_row: Floats) -> tuple[Floats, Floats]:
        between = all_rows @ by_row
        return positives @ by_row, np.cumsum(between, axis=0)

    return of_weights


def over(numerator: Floats, denominator: Floats) -> Floats:
    """Return a ratio; 0 where the denominator is not positive."""
    zeros = np.zeros_like(numerator)
    ratio: Floats = np.divide(numerator, denominator, out=zeros, where=denominator > 0)
    return ratio
