import json
import os
import subprocess
import sys
import time

import numpy
import psutil
import pytest

from rarefy.pipeline.measure import machine


def _snapshot(**changes):
    values = {
        "clock": 0.0,
        "machine": 0.0,
        "steal": 0.0,
        "process": 0.0,
        "switches": 0,
        "load": 0.0,
        "throttled": 0,
    }
    return machine.Snapshot(**(values | changes))


def test_the_fingerprint_is_json_and_equal_from_run_to_run():
    code = (
        "import json; from rarefy.pipeline.measure import machine;"
        "print(json.dumps(machine.fingerprint())); print(machine.digest(machine.fingerprint()))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout
    facts = json.loads(runs[0].stdout.splitlines()[0])
    assert facts["cores"]["physical"] <= psutil.cpu_count()
    assert facts["libraries"]["numpy"] == numpy.__version__


def test_the_fingerprint_imports_no_runtime():
    code = (
        "import sys; from rarefy.pipeline.measure.machine import fingerprint;"
        "fingerprint();"
        "print([m for m in ('torch', 'onnxruntime', 'numpy', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_another_library_version_is_another_machine(monkeypatch):
    facts = machine.fingerprint()
    changed = facts | {"libraries": facts["libraries"] | {"onnxruntime": "0.0.1"}}
    assert machine.digest(facts) != machine.digest(changed)


def test_a_quiet_machine_gives_no_reason():
    after = _snapshot(clock=10, machine=10.2, process=9.9, switches=30, load=1.0)
    assert machine.busy(_snapshot(), after) == []


def test_a_neighbour_a_thief_and_interruptions_are_named():
    after = _snapshot(
        clock=10, machine=19, process=9.5, steal=5, switches=5000, load=999, throttled=1
    )
    sentences = " | ".join(machine.busy(_snapshot(), after))
    assert "other processes used 0.95" in sentences
    assert "hypervisor took" in sentences
    assert "interrupted 500 times a second" in sentences
    assert "load average was 999.0" in sentences
    assert "throttled by heat or by the container's quota" in sentences


def test_time_that_is_stolen_from_the_timed_core_is_seen_among_many(monkeypatch):
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 64)
    after = _snapshot(clock=10, machine=9.4, process=9.4, steal=0.6)
    assert machine.busy(_snapshot(), after) == ["the hypervisor took 6.0% of the CPU time"]
    idle = _snapshot(clock=10, machine=0.2, process=0.2, steal=0.05)
    assert machine.busy(_snapshot(), idle) == []
    others = _snapshot(clock=10, machine=320, process=10, steal=30)
    assert "the hypervisor took 8.6% of the CPU time" in machine.busy(_snapshot(), others)


@pytest.mark.parametrize(
    ("quota", "threads"), [(None, 8), ("200000 100000", 2), ("150000 100000", 2), ("10 100", 1)]
)
def test_a_quota_allows_fewer_threads_than_there_are_cpus(monkeypatch, quota, threads):
    monkeypatch.setattr(machine, "allowed", lambda: range(8))
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    assert machine.usable() == threads


def test_a_real_neighbour_is_seen():
    """A spinning process counts as the load of others, not as our own."""
    code = "while True: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as neighbour:
        try:
            before = machine.snapshot()
            time.sleep(1.5)
            found = machine.busy(before, machine.snapshot())
        finally:
            neighbour.kill()
    assert any("other processes" in sentence for sentence in found)


def test_cores_are_ones_that_may_be_used():
    assert set(machine.cores()) <= os.sched_getaffinity(0)


@pytest.fixture
def devices(tmp_path, monkeypatch):
    """Return a function that pretends to be a machine with CPUs of these siblings; its /sys."""

    def pretend(siblings):
        for cpu, shared in siblings.items():
            path = tmp_path / f"system/cpu/cpu{cpu}/topology/thread_siblings_list"
            path.parent.mkdir(parents=True)
            path.write_text(f"{shared}\n")
        monkeypatch.setattr(machine, "DEVICES", tmp_path)
        monkeypatch.setattr(machine, "allowed", lambda: sorted(siblings))
        return tmp_path

    return pretend


def test_only_cores_of_the_fastest_kind_are_used_while_they_suffice(devices):
    """Two P-cores of two threads each, and four E-cores."""
    shared = {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"} | {cpu: str(cpu) for cpu in range(4, 8)}
    there = devices(shared)
    alike = machine.fingerprint()["cores"]
    assert machine.cores() == [0, 2, 4, 5, 6, 7]
    (there / "cpu_core").mkdir()
    (there / "cpu_core" / "cpus").write_text("0-3\n")
    assert machine.cores() == machine.cores(2) == [0, 2]
    assert machine.cores(3) == [0, 2, 4, 5, 6, 7]
    assert (alike["physical"], alike["logical"], "fastest" in alike) == (6, 8, False)
    assert machine.fingerprint()["cores"] == alike | {"fastest": 2}, "times are of other cores"


def test_a_process_that_may_only_use_slow_cores_uses_them(devices):
    there = devices({cpu: str(cpu) for cpu in range(4, 8)})
    (there / "cpu_core").mkdir()
    (there / "cpu_core" / "cpus").write_text("0-3\n")
    assert machine.cores() == [4, 5, 6, 7]


def test_use_is_that_of_the_cores_that_are_on(devices, monkeypatch):
    """Cores are CPUs 0 and 4, 2 and 6, 3 and 7; 1 and 5 are off, and psutil leaves them out."""
    there = devices({cpu: f"{cpu % 4},{cpu % 4 + 4}" for cpu in (0, 2, 3, 4, 6, 7)})
    (there / "system/cpu/online").write_text("0,2-4,6-7\n")
    monkeypatch.setattr(psutil, "cpu_percent", lambda **_: [0.0, 10.0, 50.0, 90.0, 0.0, 0.0])
    assert machine.quiet_cores(0.2) == [2], "0 has a busy sibling, and 3 is busy"
    assert machine.quiet_cores(0.5) == [2, 3]


def test_without_a_list_of_what_is_on_all_is(devices, monkeypatch):
    devices({cpu: str(cpu) for cpu in range(3)})
    monkeypatch.setattr(psutil, "cpu_percent", lambda **_: [0.0, 90.0])
    assert machine.quiet_cores(0.2) == [0], "nothing is known of CPU 2"


@pytest.fixture
def mac(monkeypatch):
    """A Mac that answers sysctl with what the test says; it has no /proc."""

    def missing(_path):
        raise FileNotFoundError

    monkeypatch.setattr(machine.Path, "read_text", missing)
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(machine.platform, "processor", lambda: "arm")
    return lambda said: monkeypatch.setattr(machine.subprocess, "run", said)


def test_chips_of_apple_are_told_apart(mac):
    def said(command, **_options):
        assert command == ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.CompletedProcess(command, 0, stdout="Apple M3 Pro\n")

    mac(said)
    assert machine._cpu.__wrapped__() == ("Apple M3 Pro", ())


@pytest.mark.parametrize("error", [FileNotFoundError(), subprocess.CalledProcessError(1, "sysctl")])
def test_a_mac_that_does_not_say_its_chip_has_a_name_too(mac, error):
    def failing(*_command, **_options):
        raise error

    mac(failing)
    assert machine._cpu.__wrapped__() == ("arm", ())


def test_an_arm_core_is_named_by_all_that_tells_it_apart(monkeypatch):
    """Of a board with two kinds of cores, by the fast one, which is timed."""
    core = (
        "processor\t: {}\nBogoMIPS\t: 48.00\nFeatures\t: asimd asimddp\nCPU implementer\t: 0x41\n"
    )
    text = "".join(
        core.format(at) + f"CPU variant\t: 0x1\nCPU part\t: {part}\nCPU revision\t: 0\n\n"
        for at, part in enumerate(("0xd05", "0xd0b"))
    )
    monkeypatch.setattr(machine.Path, "read_text", lambda _: text)
    monkeypatch.setattr(machine, "cores", lambda: [1])
    name, flags = machine._cpu.__wrapped__()
    assert name == (
        "CPU implementer 0x41, CPU part 0xd0b, CPU variant 0x1, CPU revision 0, BogoMIPS 48.00"
    )
    assert flags == ("asimd", "asimddp")


def test_which_of_several_kinds_of_gpus_is_used_is_a_fact_of_the_machine(monkeypatch):
    """Equal ones are one machine, whichever a pod gets."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    for gpus, known in ((("L4", "L4"), None), (("L4", "A100"), {"CUDA_VISIBLE_DEVICES": "1"})):
        monkeypatch.setattr(machine, "gpus", lambda gpus=gpus: gpus)
        monkeypatch.delenv("NVIDIA_VISIBLE_DEVICES", raising=False)
        monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
        assert machine.fingerprint().get("gpus in use") == known
