"""REGRESSION: correlations and errors of one number per row.

``outputs``: rows × 1; ``truth``: one float per row. A score is NaN if an output is not finite. A
correlation is 0 if the outputs or the truth are all the same in a draw: such a model orders
nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.stage.formulas import Floats, Score
from pipeline.stage.scoring.means import mean, undefined

_LEAST = 1e-12  # share of a variance below which it is rounding


def mse(outputs: Floats, truth: Floats) -> Score:
    """Return the mean squared error as a function of row weights."""
    return mean((_column(outputs) - _column(truth)) ** 2)


def mae(outputs: Floats, truth: Floats) -> Score:
    """Return the mean absolute error as a function of row weights."""
    return mean(np.abs(_column(outputs) - _column(truth)))


def pearson(outputs: Floats, truth: Floats) -> Score:
    """Return Pearson's correlation as a function of row weights."""
    sides = [_column(side) for side in (outputs, truth)]
    if not all(np.isfinite(side).all() for side in sides):
        return undefined
    first, second = (side - side.mean() for side in sides)  # only for the rounding
    products = np.stack([first, second, first * first, second * second, first * second], axis=1)

    def score(weights: Floats) -> Floats:
        sums = (weights @ products / weights.sum(axis=1, keepdims=True)).T
        return _correlation(*sums)

    return score


def spearman(outputs: Floats, truth: Floats) -> Score:
    """Return Spearman's correlation as a function of row weights.

    Ranks are weighted midranks: the weight of all smaller rows and half that of the equal ones. For
    whole weights, they are the mean ranks of the repeated rows.
    """
    sides = [_column(side) for side in (outputs, truth)]
    if not all(np.isfinite(side).all() for side in sides):
        return undefined
    first, second = (midranks(side) for side in sides)

    def score(weights: Floats) -> Floats:
        total = weights.sum(axis=1)
        x, y = (ranks(weights) / total[:, None] - 0.5 for ranks in (first, second))
        xx, yy, xy = (
            np.einsum("dn,dn,dn->d", weights, one, other) / total
            for one, other in ((x, x), (y, y), (x, y))
        )
        zero = np.zeros_like(total)  # the mean of midranks, from which they are counted
        return _correlation(zero, zero, xx, yy, xy)

    return score


def midranks(values: Floats) -> Callable[[Floats], Floats]:
    """Return the weighted midrank of each value as a function of weights: draws × values."""
    order = np.argsort(values, kind="stable")
    up = values[order]
    starts = np.append(0, np.flatnonzero(up[1:] != up[:-1]) + 1)
    group = np.empty(len(values), dtype=np.int64)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))

    def ranks(weights: Floats) -> Floats:
        tied = np.add.reduceat(weights[:, order], starts, axis=1)
        middle: Floats = np.cumsum(tied, axis=1) - tied / 2
        return middle[:, group]

    return ranks


def _correlation(x: Floats, y: Floats, xx: Floats, yy: Floats, xy: Floats) -> Floats:
    """Return the correlation from weighted means of x, y and their products."""
    spread = [np.maximum(square - one * one, 0.0) for one, square in ((x, xx), (y, yy))]
    known = np.asarray((spread[0] > _LEAST * xx) & (spread[1] > _LEAST * yy))
    under = np.sqrt(spread[0] * spread[1])
    found: Floats = np.divide(xy - x * y, under, out=np.zeros_like(xy), where=known)
    return found


def _column(values: Floats) -> Floats:
    return np.asarray(values, dtype=np.float64).reshape(len(values))
