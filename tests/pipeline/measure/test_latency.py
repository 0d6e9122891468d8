import os

import numpy as np
import pytest

from pipeline.measure import fresh, latency, statistics
from pipeline.measure.latency_worker import FIXED, LEAST
from pipeline.terms.errors import EvidenceError, ProviderError, RarefyError
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


def test_from_text_to_logits_takes_the_tokenizer_too(timed):
    whole, model = timed.end_to_end("teacher")[0], timed.samples["teacher"][0]
    assert all(a > b > 0 for a, b in zip(whole, model, strict=True))


def test_sampling_goes_on_until_it_is_clear(made):
    seen = []

    def clear(found):
        seen.append(len(found.samples["candidate"]))
        return len(seen) == 2

    found = latency.measure(made, bundles.texts(5), processes=2, seconds=60, clear=clear)
    assert seen == [2, 4]  # then 7 and 11
    assert found.looks == latency.LOOKS
    assert found.stopped == "every budget on it was clear"


def test_sampling_ends_when_the_time_is_over(made):
    found = latency.measure(made, bundles.texts(5), processes=2, seconds=0.1, clear=lambda _: False)
    assert len(found.samples["candidate"]) == 2
    assert found.stopped == "the 0.1 s were over"


def test_fixed_lengths_are_timed_beside_the_rows(made):
    found = latency.measure(made, bundles.texts(5), processes=2, seconds=1, lengths=(8, 32))
    assert set(found.fixed) == {"8", "32"}
    short, long = (np.concatenate(found.fixed[length]["teacher"]) for length in ("8", "32"))
    assert len(short) == len(long) == 2 * FIXED
    assert np.median(long) > np.median(short)


def test_a_runner_that_is_throttled_half_way_is_found(made, monkeypatch):
    """The workers are real; from the third process on they tell twice the time."""
    real, count = fresh.call, iter(range(100))

    def slowing(*arguments, **named):
        answer = real(*arguments, **named)
        factor = 2.0 if next(count) >= 2 else 1.0
        for model, calls in answer["wall"].items():
            answer["wall"][model] = [factor * ms for ms in calls]
        return answer

    monkeypatch.setattr(latency.fresh, "call", slowing)
    found = latency.measure(made, bundles.texts(5), processes=4, seconds=1)
    assert "times as long after " in found.throttled


def test_what_processes_say_alike_is_said_once_with_the_worst():
    said = [["others used 0.20 of 2 cores"], [], ["others used 1.52 of 2 cores", "not steady"]]
    assert latency._gathered(said) == [
        "2 of 3 processes: others used 1.52 of 2 cores",
        "1 of 3 processes: not steady",
    ]


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
    with pytest.raises(EvidenceError, match=r"process 1 failed with exit code 2: .+cannot load it"):
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
