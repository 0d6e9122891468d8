"""Answer one shard of rows in a fresh process; see ``stages.shards``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.measure import fresh
from pipeline.model.runtime import BundleModel
from pipeline.store import disk

TOGETHER = 4
"""Rows that run at once. Large models read their weights from memory at every call."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Write the raw outputs of a bundle for some rows, all or none of them."""
    output = Path(request["output"])
    model = BundleModel(Path(request["bundle"]), threads=1)
    units = model.units(request["texts"], request["pairs"], together=TOGETHER)
    part = output.with_suffix(f".{os.getpid()}.npy")
    np.save(part, units.astype(np.float32))
    disk.sync(part)
    part.replace(output)
    return {"units": len(units)}


if __name__ == "__main__":
    fresh.serve(answer)
