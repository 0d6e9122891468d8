"""Which logical CPUs share a core, and which cores are the fastest, as Linux says.

Of other systems nothing is known: each CPU is then a core of its own, and all are of one kind.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

DEVICES = Path("/sys/devices")


def physical(usable: Collection[int]) -> list[int]:
    """Return the first usable logical CPU of each physical core."""
    firsts = set()
    for cpu in usable:
        shared = siblings(cpu).intersection(usable)
        firsts.add(min(shared))
    return sorted(firsts)


def fastest(cpus: Collection[int]) -> list[int]:
    """Return the CPUs of the fastest kind: Intel's P-cores, or those of the greatest capacity."""
    performance = listed(_read("cpu_core/cpus"))
    if performance:
        return [cpu for cpu in cpus if cpu in performance]
    capacities = {}
    for cpu in cpus:
        text = _read(f"system/cpu/cpu{cpu}/cpu_capacity")
        capacities[cpu] = int(text or 0)
    greatest = max(capacities.values(), default=0)
    return [cpu for cpu in cpus if capacities[cpu] == greatest]


def siblings(cpu: int) -> set[int]:
    """Return the logical CPUs of this one's core, itself included."""
    others = _read(f"system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return {cpu} | listed(others)


def online() -> list[int]:
    """Return the CPUs that are switched on in ascending order, none if that is not known."""
    return sorted(listed(_read("system/cpu/online")))


def listed(text: str) -> set[int]:
    """Return the CPUs of a list as Linux writes it, such as "0-3,8,10-11"."""
    cpus: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        end = int(last or first) + 1
        cpus.update(range(int(first), end))
    return cpus


def _read(name: str) -> str:
    """Return what a file of the system's devices says, "" if it is missing."""
    path = DEVICES / name
    return path.read_text().strip() if path.is_file() else ""
