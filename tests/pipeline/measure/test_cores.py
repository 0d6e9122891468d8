"""What Linux says of a machine's cores, on machines that are written down here."""

from __future__ import annotations

from pathlib import Path

import pytest

from rarefy.pipeline.measure import machine


@pytest.fixture(autouse=True)
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("", set()), ("5", {5}), ("0-3,8,10-11", {0, 1, 2, 3, 8, 10, 11}), ("0,4", {0, 4})],
)
def test_a_list_of_cpus_is_read_as_linux_writes_it(text: str, cpus: set[int]) -> None:
    assert machine.listed_cpus(text) == cpus


def test_each_core_has_its_first_cpu_that_may_be_used(devices: Path) -> None:
    for cpu in range(4):
        shared = f"{cpu % 2},{cpu % 2 + 2}"
        write(devices / f"system/cpu/cpu{cpu}/topology/thread_siblings_list", shared)
    assert machine.siblings(3) == {1, 3}
    assert machine.physical_cores(range(4)) == [0, 1]
    assert machine.physical_cores([1, 2, 3]) == [1, 2]


def test_nothing_is_known_of_other_systems() -> None:
    assert machine.physical_cores(range(3)) == machine.fastest_cpus(range(3)) == [0, 1, 2]
    assert machine.online_cpus() == []


def test_intel_names_its_p_cores(devices: Path) -> None:
    write(devices / "cpu_core/cpus", "0-3")
    assert machine.fastest_cpus([0, 2, 4, 5]) == [0, 2]


def test_arm_gives_each_cpu_a_capacity(devices: Path) -> None:
    for cpu in range(8):
        write(devices / f"system/cpu/cpu{cpu}/cpu_capacity", "1024" if cpu > 5 else "446")
    assert machine.fastest_cpus(range(8)) == [6, 7]
    assert machine.fastest_cpus(range(4)) == [0, 1, 2, 3], (
        "only these may be used, and they are alike"
    )
