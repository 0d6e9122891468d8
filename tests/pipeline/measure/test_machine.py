import json
import os
import subprocess
import sys
import time

import numpy
import psutil

from pipeline.measure import machine


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
        "import json; from pipeline.measure import machine;"
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
        "import sys; from pipeline.measure import machine; machine.fingerprint();"
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
