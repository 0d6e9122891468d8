"""What a machine is, as far as times depend on it, and the other load on it.

Its cores are read from Linux's devices; of other systems nothing is known: each CPU is then a core
of its own, and all are of one kind. What a process may use of it is what its control groups leave
(versions 1 and 2). A limit may be of the process's own group or of one around it; in a container
with a namespace of its own, the group is the root of what is mounted.
"""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rarefy.pipeline.terms.digests import distribution_version, value_sha256, version

LIBRARIES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "onnx",
    "tokenizers",
    "numpy",
    "torch",
    "transformers",
    *("nvidia-cublas-cu12", "nvidia-cudnn-cu12", "nvidia-cublas", "nvidia-cudnn-cu13"),
    *("tensorrt", "tensorrt-cu13", "tensorrt-cu13-libs"),
)
FLAGS = (
    *("fma", "f16c", "avx", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl"),
    *("avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
OTHERS = 0.10
STEAL = 0.01
SWITCHES = 20.0
"""Per second. Kernel threads preempt a core a few times a second; other load does so more often."""

DEVICES = Path("/sys/devices")
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
ENDLESS = 2**60
"""Bytes that stand for no limit: version 1 writes the largest number of pages."""


def fingerprint() -> dict[str, Any]:
    """Return the facts that latency depends on, JSON-serializable and equal from run to run.

    CPU model and the flags that select kernels, usable cores, memory, GPUs, Python, and library
    versions. The versions come from package metadata without an import, so it takes milliseconds.
    """
    import psutil

    cpu, flags = _cpu()
    logical = allowed()
    physical, fastest = len(physical_cores(logical)), len(cores())
    counts = {"physical": physical, "logical": len(logical), "quota": cpu_quota()}
    if fastest < physical:
        counts["fastest"] = fastest
    memory = psutil.virtual_memory().total / 2**30
    facts = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu,
        "flags": list(flags),
        "cores": counts,
        "memory_gib": round(memory),
        "gpus": list(gpus()),
    }
    if len(set(gpus())) > 1:
        facts["gpus in use"] = _in_use()
    return facts | {
        "gpu_driver": _gpu_driver(),
        "providers": list(providers()),
        "python": platform.python_version(),
        "libraries": _libraries(),
    }


def digest(facts: dict[str, Any]) -> str:
    """Return the sha256 of a fingerprint; timings of equal digests may be compared."""
    return value_sha256(facts)


def flat(facts: dict[str, Any], within: str = "") -> dict[str, str]:
    """Return a fingerprint's facts as text, keyed by dotted name."""
    text: dict[str, str] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            text |= flat(value, f"{within}{name}.")
        elif isinstance(value, list):
            text[within + name] = ", ".join(map(str, value))
        else:
            text[within + name] = str(value)
    return text


def differences(first: dict[str, Any], second: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the facts that differ, by dotted name; a missing fact is "none"."""
    old, new = flat(first), flat(second)
    changed = {}
    for name in old | new:
        if old.get(name) != new.get(name):
            changed[name] = (old.get(name, "none"), new.get(name, "none"))
    return changed


def providers() -> tuple[str, ...]:
    """Return the execution providers that installed packages and devices should offer.

    Only the session knows which provider is active. If both onnxruntime and onnxruntime-gpu are
    installed, onnxruntime wins and the GPU is not available.
    """
    libraries = _libraries()
    if "onnxruntime" in libraries:
        return ("cpu",)
    if "onnxruntime-gpu" not in libraries:
        return ()
    return ("cuda", "cpu") if gpus() else ("cpu",)


def cores(threads: int = 1) -> list[int]:
    """Return one logical CPU of each physical core that this process may run on.

    Of cores of several kinds, such as P- and E-cores, returns only those of the fastest kind,
    unless they are fewer than ``threads``.
    """
    physical = physical_cores(allowed())
    fastest = fastest_cpus(physical)
    return fastest if len(fastest) >= threads else physical


def usable() -> int:
    """Return how many threads can run at once: a container's quota may allow fewer than its CPUs.

    That decides how much work is started side by side; what is timed goes by ``cores``.
    """
    logical, quota = len(allowed()), cpu_quota()
    if quota is None:
        return logical
    time, period = map(int, quota.split())
    return max(1, min(logical, math.ceil(time / period)))


def default_device() -> str:
    """Return "cuda" if there is a device and torch is built for it; does not import torch."""
    if not Path("/dev/nvidiactl").exists():
        return "cpu"
    torch = distribution_version("torch")
    if torch is None or "+cpu" in torch:
        return "cpu"
    return "cuda"


def quiet_cores(busy: float, threads: int = 1) -> list[int]:
    """Return the ``cores`` that were in use for at most the share ``busy`` of 0.1 s.

    A core is in use while any of its logical CPUs is.
    """
    import psutil

    shares = psutil.cpu_percent(interval=0.1, percpu=True)
    online: Sequence[int] = online_cpus()
    if len(online) != len(shares):
        online = range(len(shares))
    used = dict(zip(online, shares, strict=True))
    quiet = []
    for core in cores(threads):
        percent = max(used.get(cpu, 0.0) for cpu in siblings(core))
        if core in used and percent <= 100 * busy:
            quiet.append(core)
    return quiet


def allowed() -> Sequence[int]:
    """Return the logical CPUs that this process may run on, or all if the system cannot say."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return range(os.cpu_count() or 1)


@cache
def _libraries() -> dict[str, str]:
    versions = {name: version(name) for name in LIBRARIES}
    return {name: number for name, number in versions.items() if number}


@cache
def _cpu() -> tuple[str, tuple[str, ...]]:
    """Return the CPU's name and its flags that decide which kernels run."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return _brand() or platform.processor() or platform.machine(), ()
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    of_kernels = tuple(flag for flag in FLAGS if flag in present)
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    if model:
        return model[1].strip(), of_kernels
    return _arm(text) or platform.machine(), of_kernels


def _arm(text: str) -> str:
    """Return numbers for the name that Linux does not give an ARM core, of the kind that is timed.

    The part alone is that of several machines: a Graviton2 is an Ampere Altra by it. BogoMIPS is
    the rate of a timer there, which makers choose.
    """
    entries = re.split(r"\n\s*\n", text)
    timed = re.compile(rf"^processor\s*:\s*{cores()[0]}$", re.MULTILINE)
    matching = [entry for entry in entries if timed.search(entry)]
    entry = (matching or entries)[0]
    keys = ("CPU implementer", "CPU part", "CPU variant", "CPU revision", "BogoMIPS")
    names = "|".join(keys)
    pairs = re.findall(rf"^({names})\s*:\s*(\S+)", entry, re.MULTILINE)
    numbers = dict(pairs)
    present = [key for key in keys if key in numbers]
    return ", ".join(f"{key} {numbers[key]}" for key in present)


def _brand() -> str:
    """Return the CPU's name on macOS, where ``platform.processor`` is "arm" for every Apple chip.

    Returns "" on other systems, and if macOS does not say.
    """
    if platform.system() != "Darwin":
        return ""
    command = ["sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


@cache
def gpus() -> tuple[str, ...]:
    """Return the models of the machine's NVIDIA devices."""
    names = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        model = re.search(r"^Model:\s*(.+)$", path.read_text(), re.MULTILINE)
        names.append(model[1].strip() if model else "NVIDIA")
    return tuple(names)


def _in_use() -> dict[str, str]:
    """Return what chooses among the devices."""
    names = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES")
    return {name: os.environ[name] for name in names if name in os.environ}


def _gpu_driver() -> str | None:
    path = Path("/proc/driver/nvidia/version")
    if not path.is_file():
        return None
    return path.read_text().splitlines()[0].strip()


@dataclass(frozen=True)
class Snapshot:
    """Counters of the machine and of this process at one moment; times are in seconds."""

    clock: float
    machine: float
    steal: float
    process: float
    switches: int
    load: float
    throttled: int


def snapshot() -> Snapshot:
    """Read the counters that ``busy`` compares."""
    import time

    import psutil

    times = psutil.cpu_times()
    kinds = ("user", "nice", "system", "irq", "softirq")
    working = sum(getattr(times, kind, 0.0) for kind in kinds)
    return Snapshot(
        clock=time.perf_counter(),
        machine=working,
        steal=getattr(times, "steal", 0.0),
        process=time.process_time(),
        switches=psutil.Process().num_ctx_switches().involuntary,
        load=psutil.getloadavg()[0],
        throttled=_throttled(),
    )


def _throttled() -> int:
    """Return how often heat or a container's quota slowed us, as far as the system reports it."""
    count = 0
    for path in Path("/sys/devices/system/cpu").glob("cpu*/thermal_throttle/core_throttle_count"):
        count += int(path.read_text())
    return count + throttled_periods()


def busy(before: Snapshot, after: Snapshot, threads: int = 1) -> list[str]:
    """Return the signs of other load while this process ran ``threads`` threads, if any.

    The load average covers the last minute, also before the measurement, so it counts only if it
    exceeds the number of cores plus threads. Other processes' CPU time is exact for the interval.
    """
    seconds, signs = after.clock - before.clock, []
    logical = os.cpu_count() or 1
    worked = after.machine - before.machine
    by_others = worked - (after.process - before.process)
    others = by_others / seconds
    if others > OTHERS:
        signs.append(f"other processes used {others:.2f} of {logical} cores")
    # Of the time that CPUs wanted to work, one at least: nothing can be stolen from an idle one.
    stolen = after.steal - before.steal
    steal = stolen / max(stolen + worked, seconds)
    if steal > STEAL:
        signs.append(f"the hypervisor took {steal:.1%} of the CPU time")
    switches = (after.switches - before.switches) / seconds
    if switches > SWITCHES * threads:
        signs.append(f"the timed process was interrupted {switches:.0f} times a second")
    if after.throttled > before.throttled:
        signs.append("the CPU was throttled by heat or by the container's quota")
    if after.load > logical + threads:
        signs.append(f"the load average was {after.load:.1f} on {logical} cores")
    return signs


def physical_cores(usable: Collection[int]) -> list[int]:
    """Return the first usable logical CPU of each physical core."""
    firsts = set()
    for cpu in usable:
        shared = siblings(cpu).intersection(usable)
        firsts.add(min(shared))
    return sorted(firsts)


def fastest_cpus(cpus: Collection[int]) -> list[int]:
    """Return the CPUs of the fastest kind: Intel's P-cores, or those of the greatest capacity."""
    performance = listed_cpus(_read_device("cpu_core/cpus"))
    if performance:
        return [cpu for cpu in cpus if cpu in performance]
    capacities = {}
    for cpu in cpus:
        text = _read_device(f"system/cpu/cpu{cpu}/cpu_capacity")
        capacities[cpu] = int(text or 0)
    greatest = max(capacities.values(), default=0)
    return [cpu for cpu in cpus if capacities[cpu] == greatest]


def siblings(cpu: int) -> set[int]:
    """Return the logical CPUs of this one's core, itself included."""
    others = _read_device(f"system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return {cpu} | listed_cpus(others)


def online_cpus() -> list[int]:
    """Return the CPUs that are switched on in ascending order, none if that is not known."""
    return sorted(listed_cpus(_read_device("system/cpu/online")))


def listed_cpus(text: str) -> set[int]:
    """Return the CPUs of a list as Linux writes it, such as "0-3,8,10-11"."""
    cpus: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        end = int(last or first) + 1
        cpus.update(range(int(first), end))
    return cpus


def _read_device(name: str) -> str:
    """Return what a file of the system's devices says, "" if it is missing."""
    path = DEVICES / name
    return path.read_text().strip() if path.is_file() else ""


def cpu_quota(root: Path = CGROUPS, own: Path = OWN_CGROUP) -> str | None:
    """Return the least CPU time of a period, as ``microseconds period``; None without a limit."""
    quotas = []
    for folder in _cgroup_folders("cpu", root, own):
        text = _read(folder / "cpu.max")  # version 2
        if not text:
            microseconds = _read(folder / "cpu.cfs_quota_us")
            period = _read(folder / "cpu.cfs_period_us")
            text = f"{microseconds} {period}"
        match = re.fullmatch(r"(\d+) (\d+)", text)
        if match:
            share = int(match[1]) / int(match[2])
            quotas.append((share, text))
    if not quotas:
        return None
    _, least = min(quotas)
    return least


def throttled_periods(root: Path = CGROUPS, own: Path = OWN_CGROUP) -> int:
    """Return in how many periods the process's groups had used up their time."""
    periods = 0
    for folder in _cgroup_folders("cpu", root, own):
        text = _read(folder / "cpu.stat")
        count = re.search(r"^nr_throttled (\d+)", text, re.MULTILINE)
        if count:
            periods += int(count[1])
    return periods


def memory_limit(root: Path = CGROUPS, own: Path = OWN_CGROUP) -> int | None:
    """Return the least limit in bytes, None if there is none."""
    limits = []
    for folder in _cgroup_folders("memory", root, own):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name)
            if text.isdigit() and int(text) < ENDLESS:
                limits.append(int(text))
    return min(limits, default=None)


def _cgroup_folders(controller: str, root: Path, own: Path) -> Iterator[Path]:
    """Yield the folders of the process's group and of those around it."""
    yield root
    for line in _read(own).splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names and controller not in names.split(","):
            continue
        bases = (root / names, root / controller) if names else (root, root / "unified")
        for base in bases:
            inside = base / path.lstrip("/")
            for folder in (inside, *inside.parents):
                if folder == root or not folder.is_relative_to(base):
                    break
                yield folder


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
