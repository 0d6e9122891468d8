"""Time the first of some bundles; each call is followed by one of every other. See ``blocks``."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from rarefy.pipeline.measure import fresh_process
from rarefy.pipeline.measure.machine import fingerprint
from rarefy.pipeline.model.runtime.bundle_model import BundleModel

WARM = 50


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Return the ms of ``calls`` calls on random rows, after 50 that are left out."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, fingerprint.quiet_cores(0.2)[-1:] or fingerprint.cores()[-1:])
    random = np.random.default_rng(request["seed"])
    models = [BundleModel(Path(name), provider="cpu", threads=1) for name in request["bundles"]]
    gc.collect()
    gc.disable()
    times = []
    for row in random.integers(0, len(request["texts"]), WARM + request["calls"]).tolist():
        feed = models[0].encode([request["texts"][row]], None)[0]
        before = time.perf_counter_ns()
        models[0].run(feed)
        times.append((time.perf_counter_ns() - before) / 1e6)
        for other in models[1:]:
            other.run(other.encode([request["texts"][row]], None)[0])
    return {"ms": times[WARM:]}


if __name__ == "__main__":
    fresh_process.serve(run)
