"""Sessions: which batch is chosen, how many workers run, and what they add up to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rarefy.pipeline.measure import machine
from rarefy.pipeline.measure.throughput import session
from rarefy.pipeline.measure.throughput.compare import change
from rarefy.pipeline.measure.throughput.compare import measure as compare
from rarefy.pipeline.measure.throughput.rows import Job
from rarefy.pipeline.measure.throughput.session import SIZES, fastest, workers_on
from rarefy.pipeline.measure.throughput.worker import stretch_of
from rarefy.pipeline.terms.errors import EvidenceError, RarefyError
from rarefy.pipeline.terms.recipe_parts import Target
from tests.pipeline.measure import bundles

TWO = Target(workers=2)
JOB = Job(bundles.texts())


class Workers:
    """Simulated workers: a row takes ``pace`` ms of a model in a batch of the best size, 8."""

    def __init__(self, **pace):
        self.pace, self.requests = pace, []

    def call(self, module, request, **named):
        self.requests.append(request)
        blocks, seconds = 6, []
        draw = np.random.default_rng(request["seed"])
        for model, size in request["cases"]:
            rows = stretch_of([size for _, size in request["cases"]])
            worse = 1 + 0.1 * abs(np.log2(size / 8))
            noise = draw.lognormal(0, 0.01, blocks)
            seconds.append((rows * self.pace[model] / 1e3 * worse * noise).tolist())
        cpu = [[2 * time for time in times] for times in seconds]
        return {
            "seconds": seconds,
            "cpu": cpu,
            "tokens": [100] * blocks,
            "lists": {model: [10.0, 11.0] for model, _ in request["cases"]},
            "spread": 0.5,
            "used": 0.0,
            "switches": 0,
        }


@pytest.fixture
def measure(tmp_path):
    """Return what measures simulated workers; only the graphs of the folders are looked at."""
    folder = bundles.make(tmp_path / "bundle")

    def run(workers, target=TWO, job=JOB, **options):
        folders = dict.fromkeys(workers.pace, folder)
        return session.measure(folders, job, target, run_process=workers.call, **options)

    return run


def test_the_rates_of_all_workers_add_up_in_batches_of_the_fastest_size(measure):
    workers = Workers(candidate=2.0, teacher=8.0)
    timed = measure(workers, processes=3)
    assert timed.batch == {"candidate": 8, "teacher": 8}
    assert set(timed.tried["candidate"]) == set(SIZES)
    assert timed.rate("candidate").value == pytest.approx(1000, rel=0.02)
    assert timed.cost("candidate").value == pytest.approx(4.0, rel=0.02)
    ratio = timed.ratio("candidate", "teacher")
    assert ratio.low < 4.0 < ratio.high
    assert (timed.workers, timed.threads, timed.rows) == (2, 1, len(JOB.texts))
    assert [len(timed.samples["teacher"]), len(timed.lists["teacher"])] == [3, 3]
    numbers = sorted(request["number"] for request in workers.requests)
    assert numbers == [0] * 4 + [1] * 4, "one round more chooses the batch"
    seeds = {tuple(request["seed"]) for request in workers.requests}
    assert len(seeds) == 4


def test_the_rows_of_a_split_are_a_sample_and_those_of_a_corpus_are_not(measure):
    timed = measure(Workers(candidate=2.0), processes=2)
    assert timed.spread == pytest.approx(0.5 / len(JOB.texts) ** 0.5)
    documents = measure(Workers(candidate=2.0), job=Job(JOB.texts, corpus=30), processes=2)
    assert documents.spread == 0.0


def test_a_batch_that_the_target_names_is_not_chosen(measure):
    workers = Workers(candidate=2.0)
    timed = measure(workers, Target(workers=1, batch_size=48), processes=2)
    assert (timed.batch, timed.tried) == ({"candidate": 48}, {})
    assert [request["cases"] for request in workers.requests] == [[("candidate", 48)]] * 2
    assert all(len(request["texts"]) == 48 for request in workers.requests)


def test_a_model_whose_answers_depend_on_the_batch_answers_single_rows(measure, monkeypatch):
    """Its scores are those of single rows. A target that names a size gets it, and a word."""
    workers = Workers(candidate=2.0, teacher=8.0)
    monkeypatch.setattr(session, "rows_interact", lambda folder: True)
    timed = measure(workers, processes=2)
    assert (timed.batch, timed.tried) == ({"candidate": 1, "teacher": 1}, {})
    assert timed.setting("candidate").endswith(
        "single rows, not batches, which change its predictions"
    )
    named = measure(Workers(candidate=2.0), Target(workers=1, batch_size=8), processes=2)
    assert named.setting("candidate").endswith("batches of 8, which change its predictions")


def test_a_disturbed_block_chooses_no_other_batch():
    """Of one block, the batch of 8 took ten times as long; it is still the fastest."""
    cases = [("candidate", 1), ("candidate", 8), ("candidate", 32)]
    blocks = np.array([1.0, 2.0, 3.0, 1.0, 2.0])
    seconds = [(blocks * pace).tolist() for pace in (1.0, 0.8, 0.9)]
    seconds[1][2] *= 10
    rates = session.Round(cases, [{"seconds": seconds}], []).rates()["candidate"]
    assert fastest(rates) == 8
    assert rates[8] / rates[1] == pytest.approx(1 / 0.8)


def test_the_smallest_batch_that_is_about_as_fast_is_chosen():
    assert fastest({1: 100.0, 8: 199.0, 32: 200.0, 64: 190.0}) == 8
    assert fastest({1: 100.0, 8: 180.0, 32: 200.0, 64: 201.0}) == 32
    assert fastest({1: 100.0, 8: 80.0, 32: 70.0, 64: 60.0}) == 1


def test_sampling_stops_when_it_is_clear(measure):
    asked = []

    def clear(timed):
        asked.append(len(timed.samples["candidate"]))
        return len(asked) == 2

    timed = measure(Workers(candidate=2.0), processes=2, clear=clear)
    assert asked == [2, 4]
    assert (timed.looks, timed.stopped) == (4, "the results were clear")


def test_workers_fill_the_cores_of_a_target(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda threads=1: list(range(8)))
    monkeypatch.setattr(machine, "usable", lambda: 6)
    counts = [workers_on(Target(threads=threads)) for threads in (1, 2, 4, 16)]
    assert counts == [6, 3, 1, 1]
    assert workers_on(Target(threads=4, workers=3)) == 3
    assert workers_on(Target(provider="cuda")) == 1


def test_without_rows_there_is_no_throughput():
    with pytest.raises(EvidenceError, match="at least one row"):
        session.measure({"candidate": Path("a")}, Job([]), TWO)


def test_a_worker_that_fails_ends_the_session_with_its_error(tmp_path):
    def fail(module, request, **named):
        raise EvidenceError(f"{named['what']} was killed by SIGKILL")

    made = {"candidate": bundles.make(tmp_path / "bundle")}
    with pytest.raises(EvidenceError, match=r"worker \d of 2 was killed"):
        session.measure(made, JOB, TWO, run_process=fail)


@pytest.mark.parametrize(
    ("pace", "outcome"),
    [(2.0, "equal"), (2.4, "regression"), (1.6, "improvement")],
)
def test_a_change_is_clear_by_its_whole_interval(tmp_path, pace, outcome):
    folder = bundles.make(tmp_path / "bundle")
    workers = Workers(candidate=pace, baseline=2.0)
    options = {"processes": 3, "run_process": workers.call}
    timed = compare(folder, folder, JOB, TWO, 0.05, **options)
    assert change(timed, 0.05) == outcome
    assert timed.stopped == "the results were clear"
    timed.throttled = "calls took 2 times as long"
    assert change(timed, 0.05) == "inconclusive"


@pytest.mark.slow
def test_real_workers_answer_in_batches(tmp_path):
    """The one real measurement; the assertions hold however long its calls take."""
    made = {
        "candidate": bundles.make(tmp_path / "small", layers=1, together="rows"),
        "teacher": bundles.make(tmp_path / "large", layers=4, together="rows"),
    }
    notes = []
    timed = session.measure(
        made,
        Job(bundles.texts(), lists=[[0, 1, 2]]),
        TWO,
        processes=2,
        seconds=1,
        progress=lambda done, total, note: notes.append(note),
    )
    assert set(timed.batch) == set(timed.samples) == {"candidate", "teacher"}
    assert all(size in SIZES for size in timed.batch.values())
    for model in made:
        assert timed.rate(model).value > 0
        assert timed.cost(model).value > 0
        assert len(timed.tried[model]) == len(SIZES)
        assert [len(times) for times in timed.lists[model]] == [1, 1]
    assert timed.stopped
    assert notes[-1] == "rows a second counted on cpu"


def test_a_bundle_that_reads_one_row_at_a_time_says_so_in_a_line(tmp_path):
    single = bundles.make(tmp_path / "single")
    with pytest.raises(RarefyError) as caught:
        session.measure({"candidate": single}, JOB, Target(workers=1), processes=2, seconds=1)
    assert "\n" not in str(caught.value)
