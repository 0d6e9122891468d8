"""Correlations and errors are scipy's, on the rows repeated as often as their weights say."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from rarefy.pipeline.tasks.regression import scores as regression


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("levels", [None, 3, 10])
def test_weighted_scores_are_scipy_s_on_repeated_rows(seed, levels):
    generator = np.random.default_rng(seed)
    truth = generator.normal(5, 2, 40)
    outputs = (truth + generator.normal(0, 2, 40))[:, None]
    if levels:
        truth = np.round(truth * levels / 10)
        outputs = np.round(outputs * levels / 10)
    times = np.vstack([np.ones(40, int), generator.integers(0, 4, (3, 40))])
    expected = {
        regression.spearman: lambda x, y: stats.spearmanr(x, y).statistic,
        regression.pearson: lambda x, y: stats.pearsonr(x, y).statistic,
        regression.mse: metrics.mean_squared_error,
        regression.mae: metrics.mean_absolute_error,
    }
    for formula, reference in expected.items():
        found = formula(outputs, truth)(times.astype(float))
        repeated = [reference(np.repeat(outputs[:, 0], t), np.repeat(truth, t)) for t in times]
        assert found == pytest.approx(repeated), formula


def test_a_common_factor_of_the_weights_changes_nothing():
    generator = np.random.default_rng(0)
    outputs, truth = generator.normal(size=(30, 1)), generator.normal(size=30)
    weights = generator.exponential(size=(2, 30))
    for formula in (regression.spearman, regression.pearson, regression.mse, regression.mae):
        score = formula(outputs, truth)
        assert score(weights * 7) == pytest.approx(score(weights))


@pytest.mark.parametrize("formula", [regression.spearman, regression.pearson])
def test_a_model_that_says_the_same_of_every_row_has_no_correlation(formula):
    truth = np.arange(9.0)
    ones = np.ones((1, 9))
    assert formula(np.full((9, 1), 0.3), truth)(ones) == 0
    assert formula(truth[:, None], np.full(9, 1e6))(ones) == 0
    one_row = np.eye(9)[:1]
    assert formula(truth[:, None], truth)(one_row) == 0


def test_a_far_mean_costs_no_precision():
    generator = np.random.default_rng(1)
    outputs, truth = generator.normal(size=50), generator.normal(size=50)
    far = regression.pearson(outputs[:, None] + 1e7, truth - 1e7)(np.ones((1, 50)))
    assert far == pytest.approx([stats.pearsonr(outputs, truth).statistic], rel=1e-6)


@pytest.mark.parametrize(
    "formula", [regression.spearman, regression.pearson, regression.mse, regression.mae]
)
def test_an_output_that_is_not_a_number_makes_the_score_nan(formula):
    outputs = np.array([[1.0], [np.nan], [3.0]])
    assert np.isnan(formula(outputs, np.arange(3.0))(np.ones((2, 3)))).all()
