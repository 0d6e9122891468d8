"""Timing in blocks: what is collected, when it stops, and what it detects."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rarefy.pipeline.measure import stopping
from rarefy.pipeline.measure.latency import drift
from rarefy.pipeline.measure.latency import session as latency
from rarefy.pipeline.measure.latency import worker as latency_worker
from rarefy.pipeline.measure.latency.timer import Timer
from rarefy.pipeline.measure.latency.worker import (
    BLOCK,
    COLD,
    FEWEST,
    FIXED,
    LEAD,
    LEAST,
    Calls,
    Rows,
    Session,
    Timed,
)
from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.terms.errors import EvidenceError, ProviderError, RarefyError
from tests.pipeline.measure import bundles

LOOK = drift.find_drift  # before the fixture quiet_machine takes it away


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return {
        "candidate": bundles.make(folder / "small", layers=2),
        "teacher": bundles.make(folder / "large", layers=4),
    }


@pytest.fixture(scope="module")
def timed(made):
    """The one real measurement; the assertions hold however long its calls take."""
    return latency.measure(
        made, bundles.texts(), processes=2, seconds=1, seed=1, lengths=(8, 32), cold=1
    )


class Machine:
    """Simulated processes: each takes a second, a call takes ``pace`` ms per token of its row."""

    def __init__(self, **pace):
        self.pace, self.now, self.count = pace, 0.0, 0
        self.slower = lambda process: 1.0

    @property
    def timer(self):
        return Timer(wall=lambda: round(self.now * 1e9))

    def call(self, module, request, **named):
        self.now += 1.0
        draw = np.random.default_rng([7, self.count])
        factor = self.slower(self.count) * draw.lognormal(0, 0.01)
        self.count += 1
        rows = [row for _ in range(4) for row in draw.permutation(len(request["texts"])).tolist()]
        tokens = [len(request["texts"][row].split()) for row in rows]

        def calls(name):
            noise = draw.lognormal(0, 0.02, len(rows))
            return (factor * self.pace[name] * np.array(tokens) * noise).tolist()

        wall = {name: calls(name) for name in request["bundles"]}
        return {
            "wall": wall,
            "again": calls(request["twice"]),
            "cpu": wall,
            "tokenizer": wall,
            "device": wall,
            "sizes": tokens,
            "tokens": tokens,
            "fixed": {},
            "cold": {"wall": wall, "tokenizer": wall} if request["cold"] else {},
            "block": BLOCK,
            "busy": [],
            "disturbed": False,
            "rows": rows,
            "cold_rows": rows if request["cold"] else [],
        }


def measure(machine, **options):
    """Measure models at the machine's paces; no folder is opened."""
    models = {name: Path(name) for name in machine.pace}
    options |= {"timer": machine.timer, "run_process": machine.call}
    return latency.measure(models, bundles.texts(), **options)


def test_every_call_is_there_for_every_model(timed):
    assert set(timed.samples) == {"candidate", "teacher"}
    for model in timed.samples.values():
        assert len(model) == 2
        assert all(len(process) >= LEAST * BLOCK for process in model)
        assert all(ms > 0 for process in model for ms in process)
    lengths = [len(process) for process in timed.samples["candidate"]]
    assert lengths == [len(process) for process in timed.samples["teacher"]]
    assert lengths == [len(process) for process in timed.cpu["teacher"]]
    assert lengths == [len(process) for process in timed.called]
    assert len(timed.tokens) == sum(lengths)
    assert set(timed.tokens) <= set(range(4, 41))
    assert lengths == [len(process) for process in timed.tokenizer["candidate"]]


def test_from_text_to_logits_takes_the_tokenizer_too(timed):
    whole, model = timed.calls("teacher", whole=True)[0], timed.samples["teacher"][0]
    assert all(a > b > 0 for a, b in zip(whole, model, strict=True))


def test_fixed_lengths_are_timed_beside_the_rows(timed):
    assert set(timed.fixed) == {"8", "32"}
    for models in timed.fixed.values():
        assert set(models) == {"candidate", "teacher"}
        assert all(len(process) == FIXED for model in models.values() for process in model)


def test_calls_with_emptied_caches_are_timed_beside_the_others(timed):
    for clock in (timed.cold, timed.cold_tokenizer):
        assert set(clock) == {"candidate", "teacher"}
        assert all(len(model) == 1 for model in clock.values()), "in the first process of two"
        assert all(len(process) == COLD for model in clock.values() for process in model)
        assert all(ms > 0 for model in clock.values() for process in model for ms in process)
    whole, model = timed.calls("teacher", whole=True, cold=True), timed.calls("teacher", cold=True)
    assert all(a > b for a, b in zip(whole[0], model[0], strict=True))


def test_an_input_of_a_fixed_length_has_so_many_tokens():
    feeds = [{"input_ids": np.array([[1, *range(10, 10 + n), 2]])} for n in (3, 5)]
    for length in (4, 8, 32):
        (made,) = latency_worker.feed_of_length(feeds, length)["input_ids"]
        assert len(made) == length
        assert (made[0], made[-1]) == (1, 2)  # [CLS] and [SEP]
        assert set(made[1:-1].tolist()) <= {10, 11, 12, 13, 14}


@pytest.fixture
def clocked():
    """Two models on a simulated clock: a token takes 1 ms of one, 20 ms of the other.

    Returns a session on them, and the list of what happens: the name of the model of each call.
    """
    clock, calls = SimpleNamespace(now=0), []

    class Model:
        def __init__(self, name, pace):
            self.name, self.pace, self.provider = name, pace, "cpu"

        def encode(self, texts, pairs):
            clock.now += 1_000_000
            return [{"input_ids": np.ones((1, len(text.split())))} for text in texts]

        def run(self, feed):
            calls.append(self.name)
            clock.now += self.pace * 1_000_000 * feed["input_ids"].shape[1]

    timer = Timer(wall=lambda: clock.now, cpu=lambda: clock.now)
    paces = (("quick", 1), ("slow", 20))
    models = [Timed(name, Model(name, pace), False) for name, pace in paces]
    rows = Rows(bundles.texts(), None)
    lengths = [len(text.split()) for text in rows.texts]
    return Session(models, rows, lengths, np.random.default_rng(0), timer), calls


@pytest.mark.parametrize(("pace", "block"), [(0.01, BLOCK), (50, FEWEST)])
def test_a_warm_up_of_slow_models_compares_short_blocks(clocked, pace, block):
    """With blocks of a second, the time was over before the first comparison."""
    session, calls = clocked
    for timed in session.models:
        timed.model.pace *= pace
    assert session.warm_up(2.0)
    assert len(calls) == 2 + 2 * FEWEST * (LEAD + block)


def test_a_warm_up_that_does_not_settle_says_so(clocked):
    session, _ = clocked
    slow = session.models[1].model
    real = slow.run

    def slower_and_slower(feed):
        slow.pace *= 1.01
        real(feed)

    slow.run = slower_and_slower
    assert not session.warm_up(2.0)


def test_a_time_stands_at_the_row_that_took_it(clocked):
    session, _ = clocked
    rows = bundles.texts()
    found = session.time_blocks(0.0)
    tokens = np.array([len(rows[row].split()) for row in found.rows])
    assert len(tokens) == LEAST * BLOCK
    for name, pace in (("quick", 1), ("slow", 20)):
        np.testing.assert_allclose(found.by_model("wall")[name], pace * tokens)
        np.testing.assert_allclose(found.by_model("tokenizer")[name], 1)


def test_a_model_is_called_in_blocks_of_which_the_first_calls_are_left_out(clocked):
    session, calls = clocked
    found = session.time_blocks(0.0)
    blocks = [(name, len(list(run))) for name, run in itertools.groupby(calls)]
    assert sum(length for _, length in blocks) == 2 * LEAST * (LEAD + BLOCK)
    assert all(length % (LEAD + BLOCK) == 0 for _, length in blocks)
    assert len(found.by_model("wall")["quick"]) == LEAST * BLOCK


@pytest.mark.parametrize(("pace", "blocks"), [(0.001, 4), (1, LEAST)])
def test_calls_that_a_percentile_lacks_are_timed_if_they_take_little_longer(clocked, pace, blocks):
    """Two blocks of the slow model take seconds: two more of them would take too long."""
    session, _ = clocked
    for timed in session.models:
        timed.model.pace *= pace
    assert len(session.time_blocks(0.0, 74).rows) == blocks * BLOCK


def test_models_take_turns_in_random_order(clocked):
    session, calls = clocked
    first = []
    for _ in range(20):
        calls.clear()
        session.time_block([0], Calls())
        first.append(calls[0])
    assert set(first) == {"quick", "slow"}


def test_few_rows_are_timed_several_times_in_a_block(clocked):
    session, _ = clocked
    found = replace(session, rows=Rows(bundles.texts(3), None)).time_blocks(0.0)
    assert len(found.rows) == LEAST * BLOCK
    assert set(found.rows) == {0, 1, 2}


def test_every_line_of_the_larger_memory_is_written():
    memory = latency_worker.larger_memory(2**20)
    latency_worker.empty_caches(memory)
    assert memory.nbytes == 2**20
    assert memory.reshape(-1, 8).sum(axis=1).all()


def test_caches_are_emptied_before_each_cold_call(clocked):
    session, calls = clocked
    found = session.time_cold(5, lambda: calls.append("emptied"))
    assert len(found.rows) == 5
    assert calls[::2] == ["emptied"] * 10
    assert sorted(calls[1::2]) == ["quick"] * 5 + ["slow"] * 5


def test_sampling_goes_on_until_it_is_clear():
    seen = []

    def clear(found):
        seen.append(len(found.samples["candidate"]))
        return len(seen) == 2

    machine = Machine(candidate=0.1, teacher=0.5)
    found = measure(machine, processes=2, seconds=60, clear=clear)
    assert seen == [2, 4]  # the next would be 8 and 20
    assert found.looks == stopping.LOOKS
    assert found.stopped == "the results were clear"


def test_sampling_ends_when_the_time_is_over():
    machine = Machine(candidate=0.1, teacher=0.5)
    found = measure(machine, processes=2, seconds=5.5, clear=lambda _: False)
    assert len(found.samples["candidate"]) == 5  # a sixth would end after 6 s
    assert found.stopped == "the time limit of 5.5 s was reached"


def test_at_least_the_processes_that_were_asked_for_are_started():
    machine = Machine(candidate=0.1, teacher=0.5)
    found = measure(machine, processes=2, seconds=0.1, clear=lambda _: False)
    assert len(found.samples["candidate"]) == 2
    assert found.stopped == "the time limit of 0.1 s was reached"


def test_a_runner_that_is_throttled_half_way_is_found(monkeypatch):
    """From the third process on, everything takes twice as long."""
    monkeypatch.setattr(drift, "find_drift", LOOK)
    machine = Machine(candidate=0.1, teacher=0.5)
    assert measure(machine, processes=4, seconds=1).throttled is None
    machine = Machine(candidate=0.1, teacher=0.5)
    machine.slower = lambda process: 2.0 if process >= 2 else 1.0
    assert "times as long in the last " in measure(machine, processes=4, seconds=1).throttled


def _answer(process, rows=(3, 1, 2)):
    """What a process answers that takes 1 ms a row number for the candidate, 4 for the teacher."""
    wall = {
        "candidate": [row * 1.0 for row in rows],
        "teacher": [row * 4.0 for row in rows],
    }
    return {
        "wall": wall,
        "again": [row * 4.4 for row in rows],
        "cpu": wall,
        "tokenizer": {name: [0.1] * 3 for name in wall},
        "device": {name: [0.5] * 3 for name in wall},
        "fixed": {"8": {name: [float(process)] for name in wall}},
        "cold": {
            "wall": {name: [5.0 + process] for name in wall},
            "tokenizer": {name: [0.5] for name in wall},
        },
        "block": 3,
        "tokens": [10 * row for row in rows],
        "sizes": [10 * row for row in rows],
        "busy": [],
        "disturbed": process == 1,
        "rows": list(rows),
        "cold_rows": [rows[0]],
    }


@pytest.mark.parametrize("disturbances", [0, 1, 9])
def test_a_disturbed_measurement_is_taken_again(disturbances):
    seen = []

    def measure():
        disturbed = "the CPU was busy" if len(seen) < disturbances else None
        seen.append(SimpleNamespace(throttled=disturbed))
        return seen[-1]

    assert latency.undisturbed(measure) is seen[-1]
    assert len(seen) == min(disturbances + 1, latency.TIMES)


def test_processes_answers_are_gathered_by_model_and_process():
    answers = [_answer(0), _answer(1, rows=(2, 3, 1))]
    names = ["candidate", "teacher"]
    timed = latency.gather(answers, names, "teacher", "cpu", threads=1, looks=4)
    assert timed.samples["candidate"] == [[3, 1, 2], [2, 3, 1]]
    assert timed.calls("candidate", whole=True)[1] == [2.1, 3.1, 1.1]
    assert timed.fixed == {"8": {"candidate": [[0], [1]], "teacher": [[0], [1]]}}
    assert timed.cold == {"candidate": [[5], [6]], "teacher": [[5], [6]]}
    assert timed.calls("candidate", whole=True, cold=True) == [[5.5], [6.5]]
    assert timed.block == 3
    assert timed.tokens == [30, 10, 20, 20, 30, 10]
    assert timed.called == [[3, 1, 2], [2, 3, 1]]
    assert timed.cold_called == [[3], [2]]
    assert (timed.processes, timed.disturbed) == (2, 1)
    assert timed.noise[0] < 4 / 4.4 < timed.noise[1]
    assert timed.device == {}, "on a CPU nothing is timed on a device"
    assert timed.looks == 4
    on_gpu = latency.gather(answers, names, "teacher", "cuda", threads=1, looks=1)
    assert on_gpu.device["teacher"] == [[0.5] * 3] * 2


def test_what_processes_say_alike_is_said_once_with_the_worst():
    said = [["others used 0.20 of 2 cores"], [], ["others used 1.52 of 2 cores", "not steady"]]
    assert latency.merge_notes(said) == [
        "in 2 of 3 processes, others used 1.52 of 2 cores",
        "in 1 of 3 processes, not steady",
    ]


def test_twenty_times_the_work_is_seen_slower():
    timed = measure(Machine(candidate=0.1, teacher=2.0), processes=5, seconds=1)
    teacher, candidate = timed.samples["teacher"], timed.samples["candidate"]
    found = intervals.percentile_ratio(teacher, candidate, 50, seed=0)
    assert found.low < 20 < found.high
    assert found.high - found.low < 2


def test_the_first_processes_time_cold_caches_as_many_as_are_asked_for():
    machine = Machine(candidate=0.1, teacher=2.0)
    timed = measure(machine, processes=3, seconds=1, cold=2)
    assert len(timed.samples["candidate"]) == 3
    assert len(timed.cold["candidate"]) == len(timed.cold_tokenizer["teacher"]) == 2
    assert measure(machine, processes=3, seconds=1).cold == {}
    on_gpu = measure(machine, processes=3, seconds=1, cold=None, provider="cuda")
    assert on_gpu.cold == {}, "its weights are in a memory of its own"
    assert (timed.rows, timed.sample) == (on_gpu.rows, on_gpu.sample)
    assert timed.rows > 0


def test_the_noise_floor_is_about_one():
    """A model compared with itself does not show a twenty-fold difference."""
    low, high = measure(Machine(candidate=0.1, teacher=2.0), processes=5, seconds=1).noise
    assert 0.9 < low <= 1 <= high < 1.1


def test_positions_are_the_same_row_for_all():
    """In all processes, in order, each call's time is matched with the tokens of its row."""
    timed = measure(Machine(candidate=0.1, teacher=2.0), processes=3, seconds=1)
    for name, pace in (("candidate", 0.1), ("teacher", 2.0)):
        calls = np.array([ms for process in timed.samples[name] for ms in process])
        np.testing.assert_allclose(calls, pace * np.array(timed.tokens), rtol=0.2)


def test_a_provider_that_is_not_there_is_a_provider_error(made):
    with pytest.raises(ProviderError, match="'cuda' is not active"):
        latency.measure(made, bundles.texts(3), provider="cuda", processes=1, seconds=1)


def test_a_bundle_that_cannot_load_names_the_process_and_the_reason(made, tmp_path):
    broken = bundles.make(tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(
        EvidenceError, match=r"process 1 failed with exit code 2: .+cannot load this file"
    ):
        latency.measure(made | {"prune": broken}, bundles.texts(3), processes=1, seconds=1)


def test_no_rows_is_an_error(made):
    with pytest.raises(RarefyError, match="at least one row"):
        latency.measure(made, [])


def test_processes_after_the_time_limit_take_no_more_calls_than_they_need():
    """A process takes a second; with 20 of them the results are clear."""
    machine = Machine(candidate=0.01, teacher=0.02)
    timings = []

    def call(module, request, **named):
        timings.append(request["timing"])
        return machine.call(module, request, **named)

    timed = latency.measure(
        {name: Path(name) for name in machine.pace},
        bundles.texts(),
        seconds=9,
        clear=lambda timed: timed.processes >= stopping.FEWEST,
        timer=machine.timer,
        run_process=call,
    )
    assert (timed.processes, timed.stopped) == (20, "the results were clear")
    assert timings == [pytest.approx(9 / latency.SHARE)] * 10 + [0.0] * 10
