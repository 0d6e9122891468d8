"""Limits of control groups are found wherever they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from rarefy.pipeline.measure import machine

NONE_V1 = str(2**63 - 4096)
FILES = {
    "a container of version 2": (
        "0::/",
        {"cpu.max": "50000 100000", "cpu.stat": "nr_throttled 7", "memory.max": "1000"},
    ),
    "a service of version 2": (
        "0::/system.slice/job.service",
        {
            "cpu.max": "max 100000",
            "system.slice/cpu.max": "50000 100000",
            "system.slice/job.service/cpu.max": "max 100000",
            "system.slice/job.service/cpu.stat": "usage_usec 5\nnr_throttled 7",
            "system.slice/memory.max": "max",
            "system.slice/job.service/memory.max": "1000",
        },
    ),
    "version 1": (
        "4:memory:/job\n3:cpu,cpuacct:/job\n0::/",
        {
            "cpu,cpuacct/job/cpu.cfs_quota_us": "50000",
            "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
            "cpu,cpuacct/cpu.cfs_quota_us": "-1",
            "cpu,cpuacct/cpu.cfs_period_us": "100000",
            "cpu,cpuacct/job/cpu.stat": "nr_periods 9\nnr_throttled 7",
            "memory/job/memory.limit_in_bytes": "1000",
            "memory/memory.limit_in_bytes": NONE_V1,
        },
    ),
    "version 1 with a link": (
        "3:cpu,cpuacct:/\n4:memory:/",
        {
            "cpu/cpu.cfs_quota_us": "50000",
            "cpu/cpu.cfs_period_us": "100000",
            "cpu/cpu.stat": "nr_throttled 7",
            "memory/memory.limit_in_bytes": "1000",
        },
    ),
}


def groups(folder: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    (folder / "own").write_text(f"{own}\n")
    return folder / "cgroup", folder / "own"


@pytest.mark.parametrize("kind", FILES)
def test_the_least_limit_counts_wherever_it_is(tmp_path: Path, kind: str) -> None:
    given = groups(tmp_path, *FILES[kind])
    assert machine.cpu_quota(*given) == "50000 100000"
    assert machine.throttled_periods(*given) == 7
    assert machine.memory_limit(*given) == 1000


def test_without_limits_there_are_none(tmp_path: Path) -> None:
    files = {"cpu.max": "max 100000", "memory.max": "max", "memory/memory.limit_in_bytes": NONE_V1}
    for given in (groups(tmp_path, "0::/\n4:memory:/", files), (tmp_path / "no", tmp_path / "no")):
        assert (
            machine.cpu_quota(*given),
            machine.throttled_periods(*given),
            machine.memory_limit(*given),
        ) == (
            None,
            0,
            None,
        )
