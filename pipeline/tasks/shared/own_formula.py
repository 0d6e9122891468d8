"""A metric of one's own as a function of row weights, so that the bootstrap can evaluate it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rarefy.pipeline.sources import plugin_code
from rarefy.pipeline.tasks.shared.formulas import Floats, Formula, Score
from rarefy.pipeline.tasks.shared.means import mean
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.metrics import OwnMetric


def of(metric: OwnMetric) -> Formula:
    """Return the mean of what the function returns for each row, or its one number for all.

    One number is computed again for each draw, from as many rows as there are: each is taken as
    often as its weight says, rounded so that no row gains or loses one in the sum of all before it
    (systematic resampling). The rounding adds up to a sixth to the variance of a draw.
    """

    def formula(outputs: Floats, truth: ArrayLike) -> Score:
        predictions, labels = np.array(outputs), np.array(truth)
        value = call(metric, predictions, labels)
        if value.ndim:
            return mean(value)

        def score(weights: Floats) -> Floats:
            numbers = []
            for draw in weights:
                rows = _resampled(draw)
                numbers.append(call(metric, predictions[rows], labels[rows]))
            return np.array(numbers)

        return score

    return formula


def call(metric: OwnMetric, predictions: Floats, labels: NDArray[Any]) -> Floats:
    """Return what the function returns: a number for each row, or one for all.

    Raises RecipeError if it raises an error or returns something else.
    """
    predictions.flags.writeable = labels.flags.writeable = False
    try:
        with plugin_code.printing_to_stderr():
            value = np.asarray(metric.function(predictions, labels), dtype=np.float64)
    except (Exception, SystemExit) as error:
        kind = type(error).__name__
        words = f"{kind}: {error}".split()
        reason = " ".join(words)
        raise RecipeError(f"the metric {metric.name} raised {reason:.200}") from error
    rows = len(labels)
    if value.shape not in ((), (rows,)):
        raise RecipeError(
            f"the metric {metric.name} returned an array of shape {value.shape} for {rows} rows; "
            f"return one number for each row, ({rows},), or one for all"
        )
    if not np.isfinite(value).all():
        raise RecipeError(f"the metric {metric.name} returned NaN or infinity")
    return value


def _resampled(weights: Floats) -> NDArray[np.int64]:
    """Return as many rows as the weights sum to, each about as often as its weight says."""
    count = round(float(weights.sum()))
    ends = np.cumsum(weights)
    middles = np.arange(count) + 0.5
    return np.searchsorted(ends, middles)
