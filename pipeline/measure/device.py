"""The GPU memory in use."""

from __future__ import annotations

import subprocess

QUERY = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]


def used() -> int | None:
    """Return the bytes in use on all NVIDIA devices, None if the driver does not report them.

    The memory of all processes is counted. The driver reports a process's own share by its PID on
    the host, which differs from the PID that the process sees in a container.
    """
    try:
        done = subprocess.run(QUERY, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    amounts = done.stdout.split()
    if not amounts or not all(amount.isdigit() for amount in amounts):
        return None
    return sum(map(int, amounts)) * 2**20
