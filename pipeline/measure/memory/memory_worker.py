"""Measure the peak memory of this process, which ``memory.py`` starts."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy  # noqa: F401  the imports that answering needs, in both measurements
import tokenizers  # noqa: F401

from rarefy.pipeline.measure import fresh_process
from rarefy.pipeline.measure.memory import device, memory
from rarefy.pipeline.model.runtime.bundle_model import DEVICES, BundleModel, library


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Load and run the bundle (none if ``directory`` is None); return the peaks in bytes."""
    importlib.import_module(library(request["provider"]))
    if request["directory"] is None:
        return {"peak": memory.peak_of_process(), "device": None}
    on_gpu = DEVICES[request["provider"]] != "cpu"
    before = device.used() if on_gpu else None
    options = {"provider": request["provider"], "threads": request["threads"]}
    model = BundleModel(Path(request["directory"]), **options)
    model.units(request["texts"], request["pairs"])
    after = device.used() if on_gpu else None
    # A context alone takes some of it: without a rise, another process has given back as much.
    rise = None if before is None or after is None or after <= before else after - before
    return {"peak": memory.peak_of_process(), "device": rise}


if __name__ == "__main__":
    fresh_process.serve(run)
