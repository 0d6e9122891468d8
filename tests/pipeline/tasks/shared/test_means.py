"""Means and ratios by block weights."""

import numpy as np

from rarefy.pipeline.tasks.shared import means

WEIGHTS = np.array([[1.0, 1, 1], [2, 0, 1]])


def test_a_mean_is_that_of_the_repeated_blocks():
    assert means.mean(np.array([0.0, 3, 6]))(WEIGHTS).tolist() == [3, 2]


def test_a_ratio_is_that_of_the_sums_and_0_over_0_is_0():
    over, under = np.array([1.0, 2, 0]), np.array([2.0, 2, 0])
    assert means.ratio(over, under)(WEIGHTS).tolist() == [0.75, 0.5]
    assert means.ratio(over, under)(np.array([[0.0, 0, 1]])).tolist() == [0]


def test_a_ratio_without_a_denominator_anywhere_is_no_number():
    nothing = np.zeros(3)
    assert np.isnan(means.ratio(nothing, nothing)(WEIGHTS)).all()
