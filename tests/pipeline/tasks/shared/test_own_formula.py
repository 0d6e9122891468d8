"""A metric of one's own: a number for each row or for all, drawn as its rows are."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.metrics import f1_score

from rarefy.pipeline.measure.statistics import paired
from rarefy.pipeline.tasks.shared import own_formula
from rarefy.pipeline.tasks.shared.means import mean
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.metrics import OwnMetric

TRUTH = np.arange(50) % 2
PREDICTIONS = np.stack([1 - TRUTH, TRUTH], axis=1) * 0.8 + 0.1
PREDICTIONS[:10] = PREDICTIONS[:10, ::-1]  # ten mistakes


def own(function):
    return OwnMetric("my_metrics:own", function, "sha")


def hits(predictions, labels):
    return (predictions.argmax(axis=1) == labels).astype(float)


def share(predictions, labels):
    return hits(predictions, labels).mean()


def test_numbers_of_rows_are_averaged_by_the_weights():
    score = own_formula.of(own(hits))(PREDICTIONS, TRUTH.tolist())
    weights = np.random.default_rng(0).random((5, 50))
    assert score(weights) == pytest.approx(mean(hits(PREDICTIONS, TRUTH))(weights))


def test_one_number_is_that_of_repeated_rows():
    def f1(predictions, labels):
        return f1_score(labels, predictions.argmax(axis=1))

    score = own_formula.of(own(f1))(PREDICTIONS, TRUTH.tolist())
    times = np.random.default_rng(1).integers(0, 4, (6, 50))
    found = [
        f1_score(np.repeat(TRUTH, row), np.repeat(PREDICTIONS.argmax(axis=1), row)) for row in times
    ]
    assert score(times.astype(float)) == pytest.approx(found)


def test_the_interval_of_one_number_is_about_that_of_the_mean():
    """The draws of resampled rows spread at most as much wider as the rounding allows."""
    intervals = []
    for function in (hits, share):
        score = own_formula.of(own(function))(PREDICTIONS, TRUTH.tolist())
        intervals.append(paired.alone(score, 50))
    of_rows, of_all = intervals
    assert of_all.value == of_rows.value == 0.8
    width = (of_all.high - of_all.low) / (of_rows.high - of_rows.low)
    assert 0.97 < width < 1.1


def test_a_function_cannot_change_the_predictions():
    def spoil(predictions, labels):
        predictions[:] = 0
        return 1.0

    with pytest.raises(RecipeError, match="the metric my_metrics:own raised ValueError"):
        own_formula.of(own(spoil))(PREDICTIONS, TRUTH.tolist())


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda p, y: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda p, y: sys.exit("usage:\n  x"), "raised SystemExit: usage: x"),
        (lambda p, y: p, r"returned an array of shape (50, 2) for 50 rows; return one number for"),
        (lambda p, y: None, "returned NaN or infinity"),
        (lambda p, y: np.where(y, np.nan, 0), "returned NaN or infinity"),
        (lambda p, y: "good", "raised ValueError: could not convert string to float: 'good'"),
    ],
)
def test_what_is_no_metric_is_an_error_of_one_line(function, said):
    with pytest.raises(RecipeError) as error:
        own_formula.of(own(function))(PREDICTIONS, TRUTH.tolist())
    assert said in str(error.value)
    assert "\n" not in str(error.value)
