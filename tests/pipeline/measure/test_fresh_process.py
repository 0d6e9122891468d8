"""A job in a separate process: how it fails, and which code it runs."""

from __future__ import annotations

import json
import os
from types import ModuleType

import pytest

from rarefy.pipeline.measure import fresh_process, machine
from rarefy.pipeline.measure.latency import session as latency
from rarefy.pipeline.measure.latency import worker as latency_worker
from rarefy.pipeline.measure.load import session as load
from rarefy.pipeline.measure.load import worker as load_worker
from rarefy.pipeline.measure.memory import cold_start_worker, memory_worker
from rarefy.pipeline.terms.errors import EvidenceError
from tests.pipeline.measure import bundles


def test_a_process_that_is_killed_is_a_clear_error(tmp_path, monkeypatch):
    (tmp_path / "dies.py").write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        EvidenceError, match="timing was killed by SIGKILL; the machine may have run out of"
    ):
        fresh_process.call("dies", {}, what="timing", timeout=30)


def test_a_process_that_hangs_is_ended(tmp_path, monkeypatch):
    (tmp_path / "hangs.py").write_text(
        f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(600)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(EvidenceError, match="did not finish within 2 s"):
        fresh_process.call("hangs", {}, what="timing", timeout=2)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_folder_named_pipeline_where_one_works_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    only = {"candidate": bundles.make(tmp_path / "bundle")}
    assert latency.measure(only, bundles.texts(3), processes=1, seconds=1).noise


class OpenedError(Exception):
    """A worker opened a model with these threads."""


@pytest.mark.parametrize("worker", [latency_worker, load_worker, cold_start_worker, memory_worker])
def test_each_worker_has_the_threads_and_the_cores_that_it_is_asked_for(
    worker: ModuleType, tmp_path, monkeypatch
):
    made, pinned = bundles.make(tmp_path / "bundle"), []

    def opening(_directory, *, provider, threads):
        raise OpenedError(provider, threads)

    monkeypatch.setattr(worker, "BundleModel", opening)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *given: pinned.append(given))
    request = {
        "bundles": {"candidate": str(made)},
        "twice": "candidate",
        "directory": str(made),
        "provider": "cpu",
        "alike": False,
        "threads": 3,
        "cores": [1, 4, 6],
        "seed": [0, 0],
        "seconds": 1,
        "texts": ["w1"],
        "pairs": None,
        "rows": [0],
    }
    (tmp_path / "request.json").write_text(json.dumps(request))
    monkeypatch.setattr("sys.argv", ["worker", str(tmp_path)])
    with pytest.raises(OpenedError) as caught:
        worker.main() if worker is cold_start_worker else worker.run(request)
    assert caught.value.args == ("cpu", 3)
    timed = worker in (latency_worker, load_worker)
    assert pinned == ([(0, [1, 4, 6])] if timed else [])


def test_a_process_computes_with_the_threads_that_it_is_given(tmp_path, monkeypatch):
    (tmp_path / "says.py").write_text(
        "import os\nfrom rarefy.pipeline.measure import fresh_process\n"
        "fresh_process.serve(lambda _: {'threads': os.environ['OMP_NUM_THREADS']})\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert fresh_process.call("says", {}, what="asking", timeout=30, threads=3) == {"threads": "3"}


def test_each_process_has_cores_of_its_own_while_there_are_enough(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda _threads: [0, 2, 4, 6])
    monkeypatch.setattr(machine, "quiet_cores", lambda _busy, _threads: [2, 4, 6])
    assert sorted(core for n in range(3) for core in latency.process_cores(1, n)) == [2, 4, 6]
    assert [len(set(latency.process_cores(2, number))) for number in range(4)] == [2] * 4
    assert set(latency.process_cores(2, 0)) <= {2, 4, 6}
    assert sorted(latency.process_cores(4, 0)) == [0, 2, 4, 6]
    assert sorted(latency.process_cores(9, 0)) == [0, 2, 4, 6]
    monkeypatch.setattr(machine, "quiet_cores", lambda _busy, _threads: [6])
    assert len(set(latency.process_cores(2, 0))) == 2, "too few quiet ones"
    assert [load.worker_cores(2, number, 3) for number in range(3)] == [[0, 2], [4, 6], [0, 2]]
