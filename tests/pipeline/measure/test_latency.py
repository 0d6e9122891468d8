import os

import pytest

from pipeline.errors import EvidenceError, ProviderError, RarefyError
from pipeline.measure import fresh, latency, statistics
from pipeline.measure.latency_worker import LEAST
from tests.pipeline.measure import bundles


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return {
        "candidate": bundles.make(folder / "small", layers=2),
        "teacher": bundles.make(folder / "large", layers=40),
    }


@pytest.fixture(scope="module")
def timed(made):
    return latency.measure(made, bundles.texts(), processes=2, seconds=4, seed=1)


def test_every_call_is_there_for_every_model(timed):
    assert set(timed.samples) == {"candidate", "teacher"}
    for model in timed.samples.values():
        assert len(model) == 2
        assert all(len(process) >= LEAST for process in model)
        assert all(ms > 0 for process in model for ms in process)
    lengths = [len(process) for process in timed.samples["candidate"]]
    assert lengths == [len(process) for process in timed.samples["teacher"]]
    assert lengths == [len(process) for process in timed.cpu["teacher"]]
    assert len(timed.tokens) == sum(lengths)
    assert set(timed.tokens) <= set(range(4, 41))
    assert lengths == [len(process) for process in timed.tokenizer["candidate"]]


def test_twenty_times_the_work_is_seen_slower(timed):
    """The exact ratio is the machine's; that 40 layers take longer than 2 is not."""
    teacher, candidate = timed.samples["teacher"], timed.samples["candidate"]
    found = statistics.percentile_ratio(teacher, candidate, 50, seed=0)
    assert found.low > 2


def test_the_noise_floor_is_about_one(timed):
    """The same model against itself is no twenty-fold difference."""
    low, high = timed.noise
    assert 0.5 < low <= high < 2


def test_positions_are_the_same_row_for_all(timed):
    """A call's time grows with its length: for the larger model, at the positions of tokens."""
    from scipy.stats import spearmanr

    calls = [ms for process in timed.samples["teacher"] for ms in process]
    assert spearmanr(timed.tokens, calls).statistic > 0.5


def test_a_provider_that_is_not_there_is_a_provider_error(made):
    with pytest.raises(ProviderError, match="'cuda' is not active"):
        latency.measure(made, bundles.texts(3), provider="cuda", processes=1, seconds=1)


def test_a_bundle_that_cannot_load_names_the_process_and_the_reason(made, tmp_path):
    broken = bundles.make(tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(EvidenceError, match=r"process 1 of 1 failed with exit code 1: .+"):
        latency.measure(made | {"prune": broken}, bundles.texts(3), processes=1, seconds=1)


def test_a_process_that_is_killed_is_a_clear_error(tmp_path, monkeypatch):
    (tmp_path / "dies.py").write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(EvidenceError, match="timing was killed by SIGKILL, perhaps for want of"):
        fresh.call("dies", {}, what="timing", timeout=30)


def test_a_process_that_hangs_is_ended(tmp_path, monkeypatch):
    (tmp_path / "hangs.py").write_text(
        f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(600)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(EvidenceError, match="did not end within 2 s"):
        fresh.call("hangs", {}, what="timing", timeout=2)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_folder_named_pipeline_where_one_works_is_not_imported(made, tmp_path, monkeypatch):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    only = {"candidate": made["candidate"]}
    assert latency.measure(only, bundles.texts(3), processes=1, seconds=1).noise


def test_no_rows_is_an_error(made):
    with pytest.raises(RarefyError, match="at least one row"):
        latency.measure(made, [])
