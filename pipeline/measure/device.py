"""What is in use of the GPUs' memory."""

from __future__ import annotations

import subprocess

QUERY = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]


def used() -> int | None:
    """Return the bytes in use on all NVIDIA devices together, None where the driver tells none.

    By everyone: the driver tells a process's own share by its number on the host, which in a
    container is not the number that the process knows itself by.
    """
    try:
        told = subprocess.run(QUERY, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    amounts = told.split()
    if not amounts or not all(amount.isdigit() for amount in amounts):
        return None
    return sum(map(int, amounts)) * 2**20
