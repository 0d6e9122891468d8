"""Measure the peak memory of this process, which ``memory.py`` starts."""

from __future__ import annotations

import importlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy  # noqa: F401  the imports that answering needs, in both measurements
import tokenizers  # noqa: F401

from rarefy.pipeline.measure import fresh_process, machine
from rarefy.pipeline.measure.memory import memory
from rarefy.pipeline.model.runtime import adapter_file
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.model.runtime.providers import is_on_cpu, library

ADAPTERS = 4
"""Further adapters that are loaded: what a single one adds varies by a fifth."""
QUERY = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")


def gpu_memory() -> int | None:
    """Return the bytes in use on the first NVIDIA device, None if the driver does not report them.

    On all of them if the driver may number them otherwise than CUDA: those of several models, or
    parts of one. The memory of all processes is counted. The driver reports a process's own share
    by its PID on the host, which differs from the PID that the process sees in a container.
    """
    command = [*QUERY, *device_options()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    amounts = done.stdout.split()
    if not amounts or not all(amount.isdigit() for amount in amounts):
        return None
    return sum(map(int, amounts)) * 2**20


def device_options() -> list[str]:
    """Return the options of nvidia-smi for the device that CUDA calls the first; [] for all."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    name = visible.partition(",")[0].strip()
    if name.startswith("GPU-"):
        return ["--id", name]
    one_model = len(set(machine.gpus())) < 2
    numbered_alike = one_model or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    if name.isdigit() and numbered_alike:
        return ["--id", name]
    return []


def run(
    request: dict[str, Any], gpu_memory: Callable[[], int | None] = gpu_memory
) -> dict[str, Any]:
    """Load and run the bundle (none if ``directory`` is None); return the peaks in bytes."""
    importlib.import_module(library(request["provider"]))
    if request["directory"] is None:
        return {"peak": memory.peak_of_process(), "device": None, "adapter": None}
    on_gpu = not is_on_cpu(request["provider"])
    before = gpu_memory() if on_gpu else None
    options = {"provider": request["provider"], "threads": request["threads"]}
    model = BundleModel(Path(request["directory"]), **options)
    model.units(request["texts"], request["pairs"])
    after = gpu_memory() if on_gpu else None
    rise = None
    # A context alone takes some of it: without a rise, another process has given back as much.
    if before is not None and after is not None and after > before:
        rise = after - before
    peak = memory.peak_of_process()
    adapter = None
    if adapter_file.ADAPTER in model.signature:
        adapter = _further_adapter(model, request, peak)
    return {"peak": peak, "device": rise, "adapter": adapter}


def _further_adapter(model: BundleModel, request: dict[str, Any], peak: int) -> int:
    """Return the bytes that each further adapter of the same size adds to this process.

    Args:
        model: A bundle whose adapter is a file, after its answers.
        request: That of ``run``.
        peak: The bytes of this process before.
    """
    path = model.directory / adapter_file.FILE
    others = []
    for _ in range(ADAPTERS):
        other = model.with_adapter(path)
        other.units(request["texts"], request["pairs"])
        others.append(other)  # all of them stay
    return (memory.peak_of_process() - peak) // ADAPTERS


if __name__ == "__main__":
    fresh_process.serve(run)
