from pathlib import Path

import numpy as np
import pytest

from rarefy.pipeline.measure.latency import compare as gate
from rarefy.pipeline.measure.measurements import Latency


def _calls(factor, processes=20, calls=100, seed=0, pace=0.01):
    """Equal rows for equal seeds; each process favours the model by its own pace."""
    rows = np.random.default_rng(seed).lognormal(0, 0.6, (processes, calls))
    own = np.random.default_rng([seed, int(factor * 1e6)])
    return (
        factor * rows * own.lognormal(0, pace, (processes, 1)) * own.lognormal(0, 0.03, rows.shape)
    )


@pytest.mark.parametrize(
    ("factor", "change"),
    [
        (1.10001, "regression"),
        (1.00001, "equal"),
        (0.90001, "improvement"),
        (1.05001, "inconclusive"),
    ],
)
def test_each_change_has_its_word(factor, change):
    assert gate.compare(_calls(factor), _calls(1), 0.05).change == change


def test_processes_that_disagree_leave_it_open():
    """A mean slowdown of 10 % is not a regression if processes differ by much more."""
    found = gate.compare(_calls(1.10001, pace=0.2), _calls(1), 0.05)
    assert found.change == "inconclusive"
    assert found.ratio.low < 1.05 < found.ratio.high


def test_a_tail_that_grows_is_a_regression_of_the_tail_alone():
    """Three of every hundred calls take three times as long, which does not move the median."""
    slow = _calls(1.00001)
    slow[:, ::33] *= 3
    assert gate.compare(slow, _calls(1), 0.08).change == "equal"
    found = gate.compare(slow, _calls(1), 0.05, percentile=99)
    assert (found.change, found.p) == ("regression", None)


@pytest.mark.slow
def test_no_difference_is_rarely_called_one():
    words = [
        gate.compare(_calls(1.00001, seed=s, pace=0.03), _calls(1, seed=s), 0.02).change
        for s in range(40)
    ]
    assert sum(word in ("regression", "improvement") for word in words) <= 2


def test_whoever_looked_more_often_is_as_sure_of_less(monkeypatch):
    samples = {gate.CANDIDATE: _calls(1.10001).tolist(), gate.BASELINE: _calls(1).tolist()}
    found = {}
    for looks in (1, 20):
        timed = Latency(samples=samples, looks=looks)
        monkeypatch.setattr(gate.latency, "measure", lambda *_, timed=timed, **__: timed)
        found[looks], _ = gate.measure(Path(), Path(), [], None, 0.05)
    once, often = (found[looks].ratio for looks in (1, 20))
    assert once.value == often.value
    assert often.high - often.low > 1.2 * (once.high - once.low)


@pytest.mark.parametrize(
    ("throttled", "word"), [(None, "regression"), ("the clock fell", "inconclusive")]
)
def test_times_of_a_throttled_machine_say_nothing_and_end_nothing(monkeypatch, throttled, word):
    samples = {gate.CANDIDATE: _calls(1.10001).tolist(), gate.BASELINE: _calls(1).tolist()}
    timed, clear = Latency(samples=samples, throttled=throttled), []

    def measure(*_, **given):
        clear.append(given["clear"](timed))
        return timed

    monkeypatch.setattr(gate.latency, "measure", measure)
    found, _ = gate.measure(Path(), Path(), [], None, 0.05)
    assert found.change == word
    assert clear == [throttled is None]


@pytest.mark.parametrize(
    ("factor", "change"),
    [(1.00001, "inconclusive"), (0.90001, "inconclusive"), (0.60001, "improvement")],
)
def test_few_processes_call_nothing_fast_enough_near_the_margin(factor, change):
    """One in five may be slow, and six may have missed it."""
    few, base = _calls(factor, processes=6), _calls(1, processes=6)
    assert gate.compare(few, base, 0.05).change == change
