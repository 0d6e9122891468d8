from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest

from rarefy.pipeline.measure import machine
from rarefy.pipeline.measure.load import session as load
from rarefy.pipeline.measure.load import worker as load_worker
from rarefy.pipeline.measure.load.queueing import arrivals, fifo
from rarefy.pipeline.terms.errors import DataError, EvidenceError, ProviderError, RecipeError
from tests.pipeline.measure import bundles
from tests.pipeline.measure.queues import served


def test_a_worker_of_constant_service_is_the_simulated_queue():
    sent = arrivals(60, 10, seed=0)
    found = served(sent, [0.01] * len(sent))
    expected = (fifo(sent, [0.01] * len(sent), 1) - sent) * 1e3
    np.testing.assert_allclose(found.response, expected, atol=1e-6)
    np.testing.assert_allclose(found.ideal, expected, atol=1e-6)
    assert found.late == 0
    assert found.demand == pytest.approx(0.6, rel=0.1)
    assert found.saturated is None


def test_a_stall_is_in_the_times_of_those_behind_it():
    """One answer takes a second. Meanwhile 100 requests per second were due, and each waited.

    A closed loop would have sent none of them, and reported one slow answer in 1000.
    """
    sent = arrivals(100, 10, seed=0, kind="constant")
    lengths = [0.001] * len(sent)
    lengths[300] = 1.0
    found = served(sent, lengths)
    assert sum(ms > 500 for ms in found.service) == 1
    waited = [ms for ms in found.response if ms > 100]
    assert len(waited) == pytest.approx(100, rel=0.02)
    assert found.percentile(95, of_service=True).value == pytest.approx(1.0)
    assert found.percentile(95).value > 400
    assert found.saturated is None  # it caught up


@pytest.mark.parametrize("length", [0.011, 0.02])
def test_more_than_the_workers_can_do_is_saturated(length):
    sent = arrivals(100, 10, seed=0, kind="constant")
    found = served(sent, [length] * len(sent))
    assert "of the workers' time" in found.saturated
    assert found.achieved < 0.95 * found.rate
    third = len(sent) // 3
    assert np.mean(found.response[-third:]) > 2 * np.mean(found.response[:third])


def test_a_queue_that_never_empties_again_is_saturated():
    """The services would fit on average, but the slow ones are all at the end."""
    sent = arrivals(100, 10, seed=0, kind="constant")
    found = served(sent, [0.001] * 400 + [0.015] * 600)
    assert found.demand < 1
    assert "no request found a free worker" in found.saturated


def test_what_a_growing_queue_leaves_unanswered_counts_with_the_time_that_it_waited():
    """Ten times what the worker can do: of 1000 requests, it answers 200 in 20 seconds."""
    sent = arrivals(100, 10, seed=0, kind="constant")
    found = served(sent, [0.1] * len(sent), until=20)
    assert found.unanswered == pytest.approx(800, abs=1)
    assert len(found.response) == len(sent)
    assert found.response[-1] == pytest.approx((20 - sent[-1]) * 1e3)
    assert found.percentile(50).value > 10_000  # a request was sent within 10 s and waited till 20
    assert found.achieved == pytest.approx(10)
    assert found.utilisation == pytest.approx(1)
    assert found.demand == pytest.approx(10)
    assert found.late == 0
    assert "need 1000% of the workers' time" in found.saturated


def test_unanswered_requests_are_saturation_whatever_the_services_took():
    """In a longer test, one stall at its end would not raise the demand above what is there."""
    sent = arrivals(100, 10, seed=0, kind="constant")
    found = served(sent, [0.001] * 900 + [11.0] + [0.001] * 99, until=20)
    assert found.unanswered == 99
    assert "still waited 10 s after the last was sent" in replace(found, rate=10).saturated


def test_twenty_requests_carry_no_p99():
    sent = arrivals(2, 10, seed=0, kind="constant")
    found = served(sent, [0.001] * 20)
    assert found.percentile(99) is None
    assert found.percentile(50).value == pytest.approx(1.0)


def test_a_request_is_taken_once(tmp_path):
    """Four threads take requests at once; each opens the file itself, as processes do."""
    counter = tmp_path / "counter"
    counter.write_bytes(bytes(8))
    found: list[list[int]] = [[] for _ in range(4)]

    def work(mine):
        mine.extend(load_worker.take(counter, 2000))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(chain.from_iterable(found)) == list(range(2000))
    assert all(mine == sorted(mine) for mine in found)


def test_a_real_bundle_under_load(tmp_path):
    notes = []
    found = load.measure(
        bundles.make(tmp_path / "b"),
        bundles.texts(20),
        rate=50,
        workers=2,
        seconds=2,
        progress=lambda *told: notes.append(told),
    )
    assert found.sent == arrivals(50, 2, seed=0)
    assert len(found.response) == len(found.service) == len(found.sent)
    assert all(r >= s > 0 for r, s in zip(found.response, found.service, strict=True))
    assert np.all(np.array(found.response) >= found.ideal - 1e-6)  # never faster than its queue
    assert found.broken == 0
    assert {total for _, total, _ in notes} == {2}
    assert [done for done, _, _ in notes] == sorted(done for done, _, _ in notes)


@pytest.mark.slow
def test_a_rate_that_no_worker_can_answer_ends_with_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "PATIENCE", 0.5)
    bundle = bundles.make(tmp_path / "b")
    found = load.measure(bundle, bundles.texts(20), rate=200_000, workers=2, seconds=0.5)
    assert 0 < len(found.service) < len(found.sent) == len(found.response)
    assert found.unanswered > 0
    assert found.achieved < found.rate
    assert found.demand > 1


def test_a_worker_meets_the_shortest_and_the_longest_pair_first(tmp_path, monkeypatch):
    answered = []

    class Model:
        def __init__(self, _directory, **_options):
            pass

        def units(self, texts, pairs):
            answered.append((*texts, *pairs))
            return np.zeros((1, 2))

    monkeypatch.setattr(load_worker, "BundleModel", Model)
    monkeypatch.setattr(load_worker, "wait_for_start", lambda *_: None)
    monkeypatch.setattr(load_worker, "gc", SimpleNamespace(collect=list, disable=list))
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)
    pairs = ["a passage of many words", "", "word"]
    request = {"texts": ["a", "aa", "aaa"], "pairs": pairs, "rows": [], "cores": [0]}
    options = {"directory": "", "provider": "cpu", "threads": 1, "folder": "", "number": 0}
    load_worker.run(request | options)
    assert answered[:2] == [("aa", ""), ("a", "a passage of many words")]


def test_workers_use_the_fastest_cores_while_there_are_enough_for_all(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda threads: [0, 2] if threads <= 2 else [0, 2, 4, 5])
    assert [load.worker_cores(1, number, 2) for number in range(2)] == [[0], [2]]
    assert [load.worker_cores(1, number, 4) for number in range(4)] == [[0], [2], [4], [5]]


def test_answers_that_are_no_numbers_are_counted(tmp_path):
    broken = bundles.make(tmp_path / "b", head=float("nan"))
    found = load.measure(broken, bundles.texts(3), rate=40, seconds=0.5)
    assert found.broken == len(found.sent) > 0


@pytest.mark.slow
def test_what_keeps_one_worker_from_loading_ends_all(tmp_path):
    bundle = bundles.make(tmp_path / "b")
    with pytest.raises(ProviderError, match="'cuda' is not active"):
        load.measure(bundle, bundles.texts(3), rate=10, workers=2, seconds=1, provider="cuda")
    (bundle / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(EvidenceError, match=r"worker \d of 2 failed"):
        load.measure(bundle, bundles.texts(3), rate=10, workers=2, seconds=1)


def test_nothing_to_send_is_an_error(tmp_path):
    with pytest.raises(EvidenceError, match="at least one row"):
        load.measure(tmp_path, [], rate=10)
    with pytest.raises(EvidenceError, match=r"0\.001 requests a second for 1 s give no request"):
        load.measure(tmp_path, ["a"], rate=0.001, seconds=1)
    with pytest.raises(RecipeError, match="more than 1,000,000 requests"):
        load.measure(tmp_path, ["a"], rate=1e6, seconds=2)


def test_rows_that_the_bundle_cannot_read_are_refused_before_a_worker_starts(tmp_path):
    there = bundles.make(tmp_path / "bundle")
    signature = json.loads((there / "signature.json").read_text())
    (there / "signature.json").write_text(json.dumps(signature | {"pairs": True}))
    with pytest.raises(DataError, match="this bundle reads pairs of texts"):
        load.measure(there, bundles.texts(3), rate=100, seconds=1)


@pytest.mark.parametrize("why", ["a worker died", "the command was ended"])
def test_what_ends_a_load_test_ends_its_workers_at_once(tmp_path, monkeypatch, why):
    ended = []

    def call(_, request, *, tick, **__):
        (tmp_path / f"ready-{request['number']}").touch()
        while not (tmp_path / load.START).exists():
            time.sleep(0.01)
        if why == "a worker died" and request["number"] == 0:
            raise EvidenceError(why)
        try:
            while True:
                tick()
                time.sleep(0.01)
        finally:
            ended.append(request["number"])

    def report(seconds):
        if why == "the command was ended" and (tmp_path / load.START).exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(load.fresh_process, "call", call)
    request = {"folder": str(tmp_path), "threads": 1}
    with pytest.raises((EvidenceError, KeyboardInterrupt)):
        load._run(request, 2, 3600, report)
    assert 1 in ended
