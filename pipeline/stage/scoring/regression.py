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
    first, second = _column(outputs), _column(truth)
    if not _finite(first, second):
        return undefined
    first = first - first.mean()  # only for the rounding
    second = second - second.mean()
    products = np.stack([first, second, first * first, second * second, first * second], axis=1)

    def score(weights: Floats) -> Floats:
        total = weights.sum(axis=1, keepdims=True)
        means = weights @ products / total
        return _correlation(*means.T)

    return score


def spearman(outputs: Floats, truth: Floats) -> Score:
    """Return Spearman's correlation as a function of row weights.

    Ranks are weighted midranks: the weight of all smaller rows and half that of the equal ones. For
    whole weights, they are the mean ranks of the repeated rows.
    """
    outputs, truth = _column(outputs), _column(truth)
    if not _finite(outputs, truth):
        return undefined
    first_ranks, second_ranks = midranks(outputs), midranks(truth)

    def score(weights: Floats) -> Floats:
        total = weights.sum(axis=1)
        x = first_ranks(weights) / total[:, None] - 0.5
        y = second_ranks(weights) / total[:, None] - 0.5
        xx = _weighted_sum(weights, x, x) / total
        yy = _weighted_sum(weights, y, y) / total
        xy = _weighted_sum(weights, x, y) / total
        zero = np.zeros_like(total)  # the mean of midranks, from which they are counted
        return _correlation(zero, zero, xx, yy, xy)

    return score


def _weighted_sum(weights: Floats, first: Floats, second: Floats) -> Floats:
    """Return the weighted sum of products for each draw; all are (draws, rows)."""
    total: Floats = np.einsum("dn,dn,dn->d", weights, first, second)
    return total


def _finite(*columns: Floats) -> bool:
    return all(bool(np.isfinite(column).all()) for column in columns)


def midranks(values: Floats) -> Callable[[Floats], Floats]:
    """Return the weighted midrank of each value as a function of weights: (draws, values)."""
    order = np.argsort(values, kind="stable")
    rising = values[order]
    is_new = rising[1:] != rising[:-1]
    starts = np.append(0, np.flatnonzero(is_new) + 1)
    group = np.empty(len(values), dtype=np.int64)
    group[order] = np.append(0, np.cumsum(is_new))[: len(values)]

    def ranks(weights: Floats) -> Floats:
        tied = np.add.reduceat(weights[:, order], starts, axis=1)
        middle: Floats = np.cumsum(tied, axis=1) - tied / 2
        return middle[:, group]

    return ranks


def _correlation(x: Floats, y: Floats, xx: Floats, yy: Floats, xy: Floats) -> Floats:
    """Return the correlation from weighted means of x, y and their products."""
    x_variance = np.maximum(xx - x * x, 0.0)
    y_variance = np.maximum(yy - y * y, 0.0)
    varies = np.asarray((x_variance > _LEAST * xx) & (y_variance > _LEAST * yy))
    deviations = np.sqrt(x_variance * y_variance)
    covariance = xy - x * y
    zeros = np.zeros_like(xy)
    correlation: Floats = np.divide(covariance, deviations, out=zeros, where=varies)
    return correlation


def _column(values: Floats) -> Floats:
    return np.asarray(values, dtype=np.float64).reshape(len(values))
