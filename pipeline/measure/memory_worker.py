"""Measure the peak memory of this process, which ``pipeline.measure.memory`` starts."""

from __future__ import annotations

import importlib
import re
import resource
import sys
from pathlib import Path
from typing import Any

import numpy  # noqa: F401  the imports that answering needs, in both measurements
import tokenizers  # noqa: F401

from pipeline.measure import device, fresh
from pipeline.model.runtime import DEVICES, BundleModel, library


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Load and run the bundle (none if ``directory`` is None); return the peaks in bytes."""
    importlib.import_module(library(request["provider"]))
    if request["directory"] is None:
        return {"peak": _peak(), "device": None}
    on_gpu = DEVICES[request["provider"]] != "cpu"
    before = device.used() if on_gpu else None
    options = {"provider": request["provider"], "threads": request["threads"]}
    model = BundleModel(Path(request["directory"]), **options)
    model.units(request["texts"], request["pairs"])
    after = device.used() if on_gpu else None
    # A context alone takes some of it: without a rise, another process has given back as much.
    rise = None if before is None or after is None or after <= before else after - before
    return {"peak": _peak(), "device": rise}


def _peak() -> int:
    """Return the peak resident set of this program in bytes.

    On Linux, ``ru_maxrss`` is inherited through fork and exec, so it could be that of the parent
    process. VmHWM belongs to this program alone.
    """
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    fresh.serve(run)
