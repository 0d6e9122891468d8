import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import chi2

from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.tasks.shared import formulas


def test_wilson_is_its_closed_form():
    k, n, z = 83, 100, 1.959963984540054
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    assert intervals.wilson(k, n) == pytest.approx((0.83, centre - half, centre + half))


def test_mcnemar_is_the_binomial_tail():
    tail = sum(math.comb(12, i) for i in range(3)) / 2**12
    assert intervals.mcnemar(10, 2) == pytest.approx(2 * tail)
    assert intervals.mcnemar(0, 0) == 1.0


def _likelihood(gains: int, losses: int, n: int, delta: float) -> float:
    """Return the maximum log-likelihood of a paired table if accuracies differ by delta."""

    def negative(loss_share: float) -> float:
        cells = ((gains, loss_share + delta), (losses, loss_share))
        rest = 1 - 2 * loss_share - delta
        terms = [count * math.log(max(p, 1e-300)) for count, p in cells if count]
        return -sum(terms) - (n - gains - losses) * math.log(max(rest, 1e-300))

    low, high = max(0.0, -delta), (1 - delta) / 2
    return -minimize_scalar(
        negative, bounds=(low, high), method="bounded", options={"xatol": 1e-10}
    ).fun


@pytest.mark.parametrize(("gains", "losses", "n"), [(30, 42, 2000), (6, 14, 400), (55, 20, 500)])
def test_tango_agrees_with_the_profile_likelihood(gains, losses, n):
    """Score and likelihood-ratio intervals have the same large-sample limit."""
    found = intervals.paired_difference(gains, losses, n)
    best = _likelihood(gains, losses, n, found.value)
    for bound in (found.low, found.high):
        deviance = 2 * (best - _likelihood(gains, losses, n, bound))
        assert deviance == pytest.approx(chi2.ppf(0.95, 1), rel=0.12)


def test_models_that_never_disagree_are_not_known_to_be_equal():
    found = intervals.paired_difference(0, 0, 100)
    z2 = 1.959963984540054**2
    assert found.high == pytest.approx(z2 / (100 + z2), rel=1e-3)  # closed form at no flips
    assert found.low == pytest.approx(-found.high, rel=1e-3)
    assert intervals.non_inferiority(found, 0.001) == "inconclusive"


@pytest.mark.parametrize(
    ("gains", "losses", "n"), [(0, 50, 50), (50, 0, 50), (0, 3, 50), (3, 0, 50)]
)
def test_tango_at_the_edges_holds_the_value(gains, losses, n):
    found = intervals.paired_difference(gains, losses, n)
    assert -1 <= found.low < found.high <= 1
    assert found.low <= found.value <= found.high


def test_non_inferiority_looks_at_the_bounds():
    interval = intervals.Interval
    assert intervals.non_inferiority(interval(-0.002, -0.009, 0.004), 0.01) == "pass"
    assert intervals.non_inferiority(interval(-0.002, -0.011, 0.004), 0.01) == "inconclusive"
    assert intervals.non_inferiority(interval(-0.03, -0.04, -0.02), 0.01) == "fail"


def test_non_inferiority_rarely_passes_a_true_drop_of_the_margin():
    n, margin = 1000, 0.02
    generator = np.random.default_rng(2)
    tables = generator.multinomial(n, [0.02, 0.04, 0.94], 1000)  # true difference: -margin
    passed = [
        intervals.non_inferiority(intervals.paired_difference(g, s, n, 0.90), margin) == "pass"
        for g, s, _ in tables.tolist()
    ]
    assert np.mean(passed) < 0.07  # 5 % and three standard errors


def _answers(right):
    """Two-label probabilities for the truth 1, correct where ``right``."""
    confident = np.where(right, 0.9, 0.2)
    return np.stack([1 - confident, confident], axis=1)


@pytest.mark.slow
def test_the_paired_bootstrap_covers_a_known_difference():
    generator = np.random.default_rng(3)
    n, covered, trials = 300, 0, 300
    truth = np.ones(n, dtype=np.int64)
    for _ in range(trials):
        kind = generator.choice(4, n, p=[0.75, 0.05, 0.10, 0.10])  # both, ours, theirs, neither
        ours, theirs = _answers(kind < 2), _answers((kind == 0) | (kind == 2))
        weights = generator.multinomial(n, np.full(n, 1 / n), 400).astype(float)
        score = [formulas.accuracy(side, truth) for side in (ours, theirs)]
        whole = [float(each(np.ones((1, n)))[0]) for each in score]
        found = intervals.paired(*(each(weights) for each in score), whole)
        covered += found.difference.low <= -0.05 <= found.difference.high
    assert 0.91 < covered / trials < 0.985


@pytest.mark.parametrize(("percentile", "needed"), [(50, 6), (90, 36), (95, 72), (99, 368)])
def test_a_percentile_needs_samples(percentile, needed):
    assert intervals.samples_needed(percentile) == needed
    assert intervals.carries(percentile, needed)
    assert not intervals.carries(percentile, needed - 1)


def test_twenty_samples_carry_no_p99():
    assert not intervals.carries(99, 20)


@pytest.mark.long
def test_the_ratio_of_medians_covers_a_known_ratio(monkeypatch):
    """Rows of very different lengths, noisy calls, and five processes that favour one model."""
    monkeypatch.setattr(intervals, "DRAWS", 200)
    generator = np.random.default_rng(5)
    covered, trials, widths = 0, 300, []
    for trial in range(trials):
        slow, fast = [], []
        for _ in range(5):
            rows = generator.lognormal(0, 0.6, 100)
            slow.append(5 * generator.lognormal(0, 0.02) * rows * generator.lognormal(0, 0.02, 100))
            fast.append(rows * generator.lognormal(0, 0.02, 100))
        found = intervals.percentile_ratio(slow, fast, 50, trial)
        covered += found.low <= 5 <= found.high
        widths.append(found.high - found.low)
    assert 0.92 < covered / trials < 0.995
    assert np.median(widths) < 0.4  # pairing keeps the spread of the rows out of the ratio


def test_more_looks_and_fewer_processes_widen_the_interval():
    generator = np.random.default_rng(7)
    samples = [generator.lognormal(sigma=0.1, size=50) for _ in range(8)]
    once = intervals.percentile_interval(samples, 50, 0)
    often = intervals.percentile_interval(samples, 50, 0, looks=4)
    few = intervals.percentile_interval(samples[:2], 50, 0)
    assert few.low < often.low < once.low < once.value < once.high < often.high < few.high


def test_equal_seeds_give_equal_intervals():
    samples = [[1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 9.0]]
    first = intervals.percentile_interval(samples, 50, 7)
    assert first == intervals.percentile_interval(samples, 50, 7)
    assert first.low <= first.value <= first.high


def test_the_slower_is_seen_through_rows_of_all_lengths():
    generator = np.random.default_rng(6)
    rows = generator.lognormal(0, 0.8, 100)
    fast = [rows * generator.lognormal(0, 0.05, 100)]
    slow = [rows * 1.05 * generator.lognormal(0, 0.05, 100)]
    assert intervals.slower(slow, fast) < 0.002
    assert intervals.slower(fast, slow) > 0.9
    assert intervals.slower([rows], [rows]) == 1


@pytest.mark.slow
def test_what_disturbs_a_whole_block_is_one_observation():
    """Each block of equal models has its own pace; call by call, that looks like many proofs."""
    generator = np.random.default_rng(8)

    def process():
        return np.repeat(generator.lognormal(0, 0.05, 10), 20) * generator.lognormal(0, 0.01, 200)

    trials = [([process()], [process()]) for _ in range(300)]
    by_call = [intervals.slower(*trial) < 0.05 for trial in trials]
    by_block = [intervals.slower(*trial, block=20) < 0.05 for trial in trials]
    assert np.mean(by_call) > 0.2
    assert np.mean(by_block) < 0.08


def test_the_last_block_may_be_shorter():
    assert intervals.slower([[2.0, 2.0, 2.0]], [[1.0, 1.0, 1.0]], block=2) == 0.25


@pytest.mark.slow
def test_equal_models_look_slower_as_often_as_the_p_value_says():
    generator = np.random.default_rng(7)
    rows = generator.lognormal(0, 0.8, 100)
    found = [
        intervals.slower(*([rows * generator.lognormal(0, 0.05, 100)] for _ in range(2)))
        for _ in range(600)
    ]
    assert 0.03 < np.mean(np.array(found) < 0.05) < 0.07
    assert np.mean(np.array(found) < 0.002) < 0.01


def test_a_limit_in_ms_is_of_more_rows_than_were_timed():
    """Rows of very different lengths, 40 of them: their choice says more than the processes."""
    covered, missed = 0, 0
    for trial in range(100):
        generator = np.random.default_rng(trial)
        row_ms = generator.lognormal(0, 0.5, 40)
        rows = [generator.permutation(40).tolist() for _ in range(6)]
        samples = [
            (
                row_ms[order] * generator.lognormal(0, 0.01) * generator.lognormal(0, 0.02, 40)
            ).tolist()
            for order in rows
        ]
        of_all = intervals.percentile_interval(samples, 50, rows=rows)
        of_these = intervals.percentile_interval(samples, 50)
        covered += of_all.low <= 1 <= of_all.high
        missed += not of_these.low <= 1 <= of_these.high
    assert covered >= 90
    assert missed >= 50


def test_one_row_says_nothing_of_others():
    samples = [[1.0, 1.1, 1.2], [1.3, 1.2, 1.1]]
    same = intervals.percentile_interval(samples, 50, rows=[[4] * 3] * 2)
    assert same == intervals.percentile_interval(samples, 50)


@pytest.mark.parametrize("percentile", [0, 50, 95, 100])
def test_drawn_percentiles_are_those_of_the_calls_that_are_drawn(percentile):
    generator = np.random.default_rng(3)
    samples = [generator.lognormal(0, 1, calls).tolist() for calls in (7, 5, 9)]
    logs = []
    draws = np.random.default_rng(intervals.SEED).integers(0, 3, (intervals.DRAWS, 3))
    for drawn in draws.tolist():
        calls = np.concatenate([samples[process] for process in drawn])
        logs.append(np.log(np.percentile(calls, percentile)))
    found = intervals.percentile_interval(samples, percentile)
    error = np.std(logs) * np.sqrt(3 / 2)
    assert np.log(found.high / found.value) == pytest.approx(error * 4.302653)  # t(2), 97.5 %
