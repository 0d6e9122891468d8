"""One worker of a round: which rows it answers together, and when it stops."""

from __future__ import annotations

import itertools
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from rarefy.pipeline.measure.latency.timer import Timer
from rarefy.pipeline.measure.throughput.worker import (
    LEAST,
    MOST,
    STRETCH,
    TOKENS,
    Case,
    Meeting,
    Round,
    stretch_of,
)

ROWS = 500


def meeting(path, number=0, workers=1):
    if not path.exists():
        path.write_bytes(bytes(8 * (workers + 1)))
    return Meeting(path, number, workers)


class Model:
    """Answers on a simulated clock: a call takes 1 ms, and 10 µs for each token with padding."""

    provider = "cpu"

    def __init__(self, clock, pace=1.0):
        self.clock, self.pace, self.calls = clock, pace, []

    def encode_together(self, texts, pairs=None):
        return texts

    def run(self, texts):
        longest = max(len(text.split()) for text in texts)
        self.calls.append(texts)
        self.clock.now += self.pace * (1e-3 + 1e-5 * longest * len(texts))


@pytest.fixture
def rounds(tmp_path):
    """Return a function that makes a round of cases on rows of the given lengths."""
    clock, number = SimpleNamespace(now=0.0), itertools.count()

    def make(cases, lengths=None, models=None):
        if lengths is None:
            lengths = np.random.default_rng(0).integers(4, 60, ROWS).tolist()
        models = models or {"candidate": Model(clock)}
        timer = Timer(wall=lambda: round(clock.now * 1e9), cpu=lambda: round(clock.now * 1e9))
        texts = [" ".join(["w"] * length) for length in lengths]
        random = np.random.default_rng(1)
        place = meeting(tmp_path / f"meeting-{next(number)}")
        cases = [Case(*case) for case in cases]
        return Round(models, cases, texts, None, lengths, random, place, timer)

    make.clock = clock
    return make


def test_all_sizes_answer_the_same_rows_of_about_one_length(rounds):
    model = Model(rounds.clock)
    made = rounds([("candidate", 8), ("candidate", 64)], models={"candidate": model})
    made.time_blocks(0.01)
    calls = [len(call) for call in model.calls]
    assert set(calls) == {8, 64}
    for call in model.calls:
        lengths = [len(text.split()) for text in call]
        assert max(lengths) - min(lengths) <= 10
    assert [len(times) for times in made.seconds] == [len(made.tokens)] * 2
    assert min(map(min, made.seconds)) > 0
    np.testing.assert_allclose(made.cpu, made.seconds)


def test_blocks_come_from_everywhere_in_the_order_of_lengths(rounds):
    """The rate is that of all rows, whatever part of them is answered."""
    made = rounds([("candidate", STRETCH)])
    made.time_blocks(0.3)
    assert LEAST < len(made.tokens) < len(made.lengths) / STRETCH + 3
    part = np.mean(made.tokens) / STRETCH
    assert part == pytest.approx(np.mean(made.lengths), rel=0.2)


def test_it_stops_when_time_is_over_but_not_before_the_fewest_blocks(rounds):
    short, endless = rounds([("candidate", 8)]), rounds([("candidate", 8)])
    short.time_blocks(0.0)
    assert len(short.tokens) == LEAST
    endless.time_blocks(1e9)
    assert len(endless.tokens) == MOST


def test_long_rows_share_a_call_with_fewer(rounds):
    model = Model(rounds.clock)
    made = rounds([("candidate", 64)], lengths=[TOKENS // 10] * 70, models={"candidate": model})
    made.time_blocks(0.0)
    assert max(map(len, model.calls)) == 10


def test_a_block_is_whole_batches():
    assert [stretch_of([size]) for size in (1, 8, 12, 64, 100)] == [16, 16, 12, 64, 100]
    assert stretch_of([1, 8, 32, 64]) == 64


def test_workers_go_on_until_all_are_timed_and_stop_together(tmp_path):
    """The slower of two is timed beside a busy one, and both have the same blocks."""
    path = tmp_path / "meeting"
    texts = [" ".join(["w"] * length) for length in range(4, 132)]
    lengths = [len(text.split()) for text in texts]
    workers = []
    for number, pace in enumerate((1.0, 3.0)):
        clock = SimpleNamespace(now=0.0)
        timer = Timer(wall=lambda clock=clock: round(clock.now * 1e9))
        models = {"candidate": Model(clock, pace)}
        random = np.random.default_rng(1)
        place = meeting(path, number, 2)
        workers.append(
            Round(models, [Case("candidate", 32)], texts, None, lengths, random, place, timer)
        )
    threads = [threading.Thread(target=worker.time_blocks, args=(0.05,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    fast, slow = workers
    assert fast.tokens == slow.tokens
    ratio = np.sum(slow.seconds) / np.sum(fast.seconds)
    assert ratio == pytest.approx(3.0)


def test_lists_are_timed_whole(rounds):
    made = rounds([("candidate", 8)])
    times = made.time_lists([(["w w w"] * 20, None), (["w"] * 3, None)], 60)
    assert times == {"candidate": [pytest.approx(3.6), pytest.approx(1.03)]}


def test_no_list_begins_when_the_time_is_over(rounds):
    made = rounds([("candidate", 8)])
    lists = [(["w w w"] * 20, None)] * 9
    assert len(made.time_lists(lists, 0.005)["candidate"]) == 1
