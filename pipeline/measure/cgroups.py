"""What Linux's control groups leave a process: CPU time and memory, in versions 1 and 2.

A limit may be of the process's own group or of one around it. In a container with a namespace of
its own, the group is the root of what is mounted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
ENDLESS = 2**60
"""Bytes that stand for no limit: version 1 writes the largest number of pages."""


def quota(root: Path = ROOT, own: Path = OWN) -> str | None:
    """Return the least CPU time of a period, as ``microseconds period``; None without a limit."""
    quotas = []
    for folder in _folders("cpu", root, own):
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


def throttled(root: Path = ROOT, own: Path = OWN) -> int:
    """Return in how many periods the process's groups had used up their time."""
    periods = 0
    for folder in _folders("cpu", root, own):
        text = _read(folder / "cpu.stat")
        count = re.search(r"^nr_throttled (\d+)", text, re.MULTILINE)
        if count:
            periods += int(count[1])
    return periods


def memory(root: Path = ROOT, own: Path = OWN) -> int | None:
    """Return the least limit in bytes, None if there is none."""
    limits = []
    for folder in _folders("memory", root, own):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name)
            if text.isdigit() and int(text) < ENDLESS:
                limits.append(int(text))
    return min(limits, default=None)


def _folders(controller: str, root: Path, own: Path) -> Iterator[Path]:
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
