"""The GPU memory in use."""

from __future__ import annotations

import os
import subprocess

from rarefy.pipeline.measure.machine import fingerprint

QUERY = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]


def used() -> int | None:
    """Return the bytes in use on the first NVIDIA device, None if the driver does not report them.

    On all of them if the driver may number them otherwise than CUDA: those of several models, or
    parts of one. The memory of all processes is counted. The driver reports a process's own share
    by its PID on the host, which differs from the PID that the process sees in a container.
    """
    try:
        done = subprocess.run(
            QUERY + _first(), capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    amounts = done.stdout.split()
    if not amounts or not all(amount.isdigit() for amount in amounts):
        return None
    return sum(map(int, amounts)) * 2**20


def _first() -> list[str]:
    """Return what asks nvidia-smi for the device that CUDA calls the first; it knows all."""
    name = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    alike = len(set(fingerprint.gpus())) < 2 or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return ["--id", name] if name.startswith("GPU-") or (name.isdigit() and alike) else []
