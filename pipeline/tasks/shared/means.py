"""Scores that are a weighted mean, or a ratio of two weighted sums, over blocks."""

from __future__ import annotations

import numpy as np

from rarefy.pipeline.tasks.shared.formulas import Floats, Score


def mean(values: Floats) -> Score:
    """Return the mean of one value per block as a function of block weights."""
    return lambda weights: weights @ values / weights.sum(axis=1)


def undefined(weights: Floats) -> Floats:
    """Return the score of answers that have none: NaN for each draw."""
    return np.full(len(weights), np.nan)


def ratio(numerator: Floats, denominator: Floats) -> Score:
    """Return the ratio of two sums over blocks; 0/0 is NaN, but 0 in a draw from others."""
    if not denominator.any():
        return undefined

    def score(weights: Floats) -> Floats:
        over, under = weights @ numerator, weights @ denominator
        quotient: Floats = np.divide(over, under, out=np.zeros_like(over), where=under != 0)
        return quotient

    return score
