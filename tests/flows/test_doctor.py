"""The doctor reports what is missing and how to fix it."""

from __future__ import annotations

import errno
import importlib.metadata
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rarefy.flows import doctor
from rarefy.flows.server import server as prefect_server
from rarefy.pipeline.measure import machine
from rarefy.pipeline.model.quantization import cpu_arithmetic
from rarefy.pipeline.model.runtime import onnx_runtime, openvino
from rarefy.pipeline.run import checks
from rarefy.pipeline.store.store import Store
from tests.project import Said


def fake_versions(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    known = {name.replace("_", "-"): value for name, value in versions.items()}
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: known.get(name, real(name)))


def test_two_builds_of_onnxruntime_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_versions(monkeypatch, onnxruntime="1.22", onnxruntime_gpu="1.22")
    check = next(doctor.onnxruntime())
    assert check.state == "fail"
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in check.fix


def test_a_provider_that_cannot_start_is_a_warning_and_not_a_word_on_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if onnxruntime-gpu were installed without CUDA's libraries."""
    import onnxruntime

    real = onnxruntime.InferenceSession

    class Session(real):
        def _create_inference_session(self, providers, *arguments, **keywords):
            if "CUDAExecutionProvider" in providers:
                raise RuntimeError("libcublasLt.so.12: cannot open shared object file")
            super()._create_inference_session(providers, *arguments, **keywords)

    promised = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: promised)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcudnn"))
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnx_runtime, "inactive", inspect.unwrap(onnx_runtime.inactive))
    found = {check.name: check for check in doctor.onnxruntime()}["providers"]
    assert found.state == "warn"
    assert found.found == "active: CPUExecutionProvider; not active: CUDAExecutionProvider"
    assert not capsys.readouterr().out


def test_a_busy_machine_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process keeps a core busy while the doctor measures."""
    monkeypatch.setattr(doctor, "LISTEN", 1.0)
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        found = next(doctor.quiet())
    finally:
        neighbour.kill()
        neighbour.wait()
    assert (found.name, found.state) == ("quiet", "warn")
    assert "other processes used" in found.found
    assert "inconclusive" in found.fix


def test_a_clock_that_changes_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "LISTEN", 0.01)
    monkeypatch.setattr(doctor, "CLOCK", tmp_path)
    file = tmp_path / "cpu0" / "cpufreq" / "scaling_governor"
    file.parent.mkdir(parents=True)
    for governor, names in (("performance", ["quiet"]), ("powersave", ["quiet", "clock"])):
        file.write_text(f"{governor}\n")
        assert [check.name for check in doctor.quiet()] == names


def test_a_missing_and_an_old_library_are_named(
    tmp_path: Path, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_versions(monkeypatch, peft="0.1")
    monkeypatch.setattr(
        importlib.metadata,
        "requires",
        lambda name: ["peft>=0.17", "no-such-thing>=2", "x; extra == 'y'"],
    )
    said = rarefy("doctor", "--home", tmp_path)
    assert said.code == 5
    assert "0.1, needs >=0.17" in said.out
    assert "pip install 'no-such-thing>=2'" in said.out
    assert "peft" in said.err
    assert "no-such-thing" in said.err


def test_a_server_that_does_not_answer_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    check = next(doctor.prefect())
    assert (check.state, check.found) == ("fail", "http://127.0.0.1:9/api does not respond")


def test_an_address_that_is_nothing_of_prefect_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(prefect_server, "answers", lambda _: True)
    monkeypatch.setattr(prefect_server, "astray", lambda _: True)
    check = next(doctor.prefect())
    assert (check.state, check.found) == ("fail", "http://127.0.0.1:9 is not a Prefect API")
    assert "/api" in check.fix


@pytest.mark.parametrize(("refuses", "state"), [(True, "fail"), (False, "ok")])
def test_a_server_that_lets_nobody_in_fails(
    monkeypatch: pytest.MonkeyPatch, refuses: bool, state: str
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setattr(prefect_server, "answers", lambda _: True)
    monkeypatch.setattr(prefect_server, "refuses", lambda _: refuses)
    check = next(doctor.prefect())
    assert check.state == state
    assert ("PREFECT_API_KEY" in check.fix) is refuses


def test_a_store_of_a_newer_rarefy_fails(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.json").write_text('{"schema": 99}')
    states = {check.name: check for check in doctor.store(tmp_path)}
    assert states["store"].state == "fail"
    assert "schema 99" in states["store"].found


def test_a_store_that_cannot_be_written_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    assert [check.state for check in doctor.store(tmp_path)][-1] == "ok"

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(store.root))

    monkeypatch.setattr(Store, "lock", refused)
    *_, check = doctor.store(tmp_path)
    assert (check.state, "Permission denied" in check.found) == ("fail", True)


def test_a_container_has_the_memory_that_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = checks.total_memory()
    monkeypatch.setattr(machine, "memory_limit", lambda: 10**9)
    (check,) = doctor.memory()
    assert (check.state, check.found) == ("warn", "1 GB free of 1 GB")
    assert checks.total_memory() < whole


def test_a_check_that_breaks_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise OSError("no such wire")

    monkeypatch.setattr(doctor, "memory", broken)
    found = {check.name: check for check in doctor.run_all(tmp_path)}
    assert found["broken"].found == "OSError: no such wire"
    assert found["python"].state == "ok"


def test_a_cpu_with_vnni_is_described_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = machine.fingerprint() | {"flags": ["avx512_vnni"]}
    monkeypatch.setattr(machine, "fingerprint", lambda: facts)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    cpu_arithmetic.exact.cache_clear()
    found = {check.name: check for check in doctor.cpu()}
    assert (found["int8"].state, found["int8"].found) == ("ok", "avx512_vnni")
    assert "cores" in found


@pytest.mark.parametrize("exact", [True, False])
def test_what_a_cpu_computes_decides_whether_targets_may_say_vnni(
    exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not its flags: under emulation, they are those of the machine that emulates."""
    facts = machine.fingerprint() | {"flags": ["avx512_vnni"]}
    monkeypatch.setattr(machine, "fingerprint", lambda: facts)
    monkeypatch.setattr(cpu_arithmetic, "exact", lambda: exact)
    assert doctor.takes_vnni() is exact
    found = {check.name: check for check in doctor.cpu()}["int8"]
    assert (found.state, "targets for CPUs like this one may say isa: vnni" in found.found) == (
        "ok",
        exact,
    )


def test_openvino_is_optional_and_its_precision_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    (check,) = doctor.openvino()
    assert check.state == "ok"
    assert check.found.startswith(importlib.metadata.version("openvino"))
    assert check.found.endswith(("computes floats in fp32 here", "computes floats in bf16 here"))
    monkeypatch.setattr(openvino, "find_spec", lambda _: None)
    (check,) = doctor.openvino()
    assert (check.state, check.fix) == ("ok", "")
    assert "need pip install 'openvino>=" in check.found


def test_the_demo_needs_no_more_memory_than_is_said() -> None:
    record = json.loads(
        (Path(__file__).parents[2] / "benchmarks/results/demo_best.json").read_text()
    )
    (measured,) = (
        each["measured"] for each in record["must_show"] if each["target"] == "under 3 GB"
    )
    assert float(measured.partition(" GB")[0]) * 1e9 <= doctor.MEMORY


def test_a_password_in_a_url_is_not_shown() -> None:
    said = doctor.Check("prefect", "fail", "http://user:s3cret@127.0.0.1:1/api does not respond")
    assert said.found == "http://***@127.0.0.1:1/api does not respond"
