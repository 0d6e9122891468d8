"""Bounds of compared scores: Clopper and Pearson's for shares, and never without a width."""

import math

import numpy as np
import pytest
from scipy.stats import beta

from rarefy.pipeline.measure.statistics import paired
from rarefy.pipeline.tasks.regression import scores as regression
from rarefy.pipeline.tasks.shared.means import mean, ratio


def shares(n, gains, losses, both):
    ours, theirs = np.zeros(n), np.zeros(n)
    ours[: gains + both] = 1
    theirs[gains : gains + both + losses] = 1
    return mean(ours), mean(theirs)


@pytest.mark.parametrize("losses", [0, 1, 2, 5, 20])
def test_if_only_losses_are_seen_the_lower_bound_is_clopper_and_pearson_s(losses):
    found = paired.compare(*shares(200, 0, losses, 150), 200, resamples=40_000)
    worst = beta.ppf(0.95, losses + 1, 200 - losses)
    assert found.difference90.low == pytest.approx(-worst, rel=0.03)
    assert found.difference90.value == pytest.approx(-losses / 200)


@pytest.mark.parametrize("blocks", [30, 300, 5000])
def test_models_that_never_differ_have_the_rule_of_three(blocks):
    found = paired.compare(*shares(blocks, 0, 0, blocks - 10), blocks, resamples=20_000)
    three = -math.log(0.05)
    for bound in (-found.difference90.low, found.difference90.high):
        assert bound == pytest.approx(three / blocks, rel=0.06)
    assert found.difference.value == 0
    assert found.ratio.value == 1
    assert -found.difference.low == pytest.approx(-math.log(0.025) / blocks, rel=0.08)
    assert found.ratio90.low == pytest.approx(1 - three / (blocks - 10), rel=0.06)


def test_all_right_answers_do_not_prove_a_perfect_score():
    found = paired.alone(mean(np.ones(30)), 30, resamples=20_000)
    assert found.low == pytest.approx(0.025 ** (1 / 30), abs=0.01)
    assert found.high >= found.value == 1


def test_with_many_blocks_the_intervals_are_those_of_the_normal_distribution():
    generator = np.random.default_rng(0)
    first = generator.normal(1, 0.3, 2000)
    second = first + generator.normal(0, 0.1, 2000)
    found = paired.compare(mean(first), mean(second), 2000, resamples=20_000)
    error = np.std(first - second) / math.sqrt(2000)
    for interval, z in ((found.difference, 1.96), (found.difference90, 1.645)):
        assert interval.high - interval.value == pytest.approx(z * error, rel=0.1)
        assert interval.value - interval.low == pytest.approx(z * error, rel=0.1)
    assert found.ratio90.low - 1 == pytest.approx(found.difference90.low, rel=0.05)


def test_the_wide_interval_holds_the_narrow_one():
    for losses in range(6):
        found = paired.compare(*shares(100, 1, losses, 60), 100)
        for wide, narrow in ((found.difference, found.difference90), (found.ratio, found.ratio90)):
            assert wide.low <= narrow.low <= narrow.value <= narrow.high <= wide.high


def test_influences_of_a_mean_are_its_values_and_of_a_ratio_its_linear_part():
    values = np.random.default_rng(1).normal(size=50)
    assert paired.influences(mean(values), 50) == pytest.approx(values)
    over, under = np.abs(values), np.abs(values[::-1]) + 1
    whole = over.sum() / under.sum()
    linear = whole + (over - whole * under) / under.mean()
    assert paired.influences(ratio(over, under), 50) == pytest.approx(linear, abs=0.1)


def test_groups_of_blocks_are_left_out_together(monkeypatch):
    monkeypatch.setattr(paired, "GROUPS", 10)
    values = np.zeros(25)
    values[7] = 1
    found = paired.influences(mean(values), 25)
    assert len(found) == 9
    assert found.max() == pytest.approx(1, abs=0.1)
    assert np.argmax(found) == 2


def test_the_unseen_block_is_at_most_the_largest_and_shrinks_to_what_was_seen():
    assert paired.unseen_block(np.zeros(9), 1.0) == (1.0, 1.0)
    one = paired.unseen_block(np.array([0.0, 0.2, 0]), 1.0)
    assert one == pytest.approx((0.2 + 0.8 * 2 / 3, 1 / 3 + 4 / 9))
    many = paired.unseen_block(np.full(1998, -0.2), 1.0)
    assert many == pytest.approx((0.2008, 1 / 3 + 2 / 3000))
    beyond = paired.unseen_block(np.array([2.0, 0]), 1.0)
    assert beyond.reach == 2.0


def test_a_rank_correlation_of_two_equal_models_keeps_a_width():
    generator = np.random.default_rng(2)
    truth = generator.normal(size=80)
    outputs = (truth + generator.normal(size=80))[:, None]
    score = regression.spearman(outputs, truth)
    found = paired.compare(score, score, 80)
    assert found.difference90.low < -3 / 80 * abs(found.ratio.value) / 2
    assert found.ratio90.low < 1 < found.ratio90.high


def test_a_reference_of_0_and_a_score_that_is_nan_give_no_bounds():
    with np.errstate(all="ignore"):
        nothing = paired.compare(mean(np.ones(40)), mean(np.zeros(40)), 40)
        broken = paired.compare(mean(np.full(40, np.nan)), mean(np.ones(40)), 40)
    assert math.isinf(nothing.ratio.value)
    assert nothing.difference.value == 1
    assert all(math.isnan(bound) for bound in (*broken.difference, *broken.ratio90))


@pytest.mark.parametrize("slope", [-3, 0.05])
def test_a_share_of_a_score_that_may_be_negative_is_not_a_number(slope):
    """It had a lower bound above its upper bound, or its value outside."""
    truth = np.linspace(0, 1, 40)
    ours, theirs = (
        regression.pearson((side * truth + np.sin(40 * truth))[:, None], truth)
        for side in (3, slope)
    )
    found = paired.compare(ours, theirs, 40)
    assert found.difference.low < found.difference.value < found.difference.high
    assert all(math.isnan(end) for end in (*found.ratio, *found.ratio90))


def test_a_single_block_has_bounds_on_both_sides():
    found = paired.compare(mean(np.array([0.5])), mean(np.array([0.4])), 1)
    assert found.difference.low < 0 < 0.1 < found.difference.high


def test_the_same_seed_gives_the_same_bounds():
    pair = shares(60, 2, 5, 30)
    assert paired.compare(*pair, 60, 1) == paired.compare(*pair, 60, 1)
    assert paired.compare(*pair, 60, 1) != paired.compare(*pair, 60, 2)
