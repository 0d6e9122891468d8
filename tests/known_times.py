"""Latencies that are known, for tests of something else: no process is started to time calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rarefy.pipeline.measure.latency import session as latency
from rarefy.pipeline.measure.latency.worker import BLOCK, LEAST

TOKENS = 8
Time = Callable[[Path], float]
"""What each call of a bundle takes in ms, but for one percent of noise."""


def alike(_: Path) -> float:
    """Return the same for all bundles."""
    return 1.0


def by_size(bundle: Path) -> float:
    """Return a microsecond for each byte of the graph, so fewer layers and units are faster."""
    return (bundle / "model.onnx").stat().st_size / 1e6


def answer(_: str, request: dict[str, Any], *, ms: Time = alike, **__: Any) -> dict[str, Any]:
    """Answer as a process that times bundles; see ``worker.run``. No two answers are equal."""
    draw = np.random.default_rng()
    count = BLOCK * max(LEAST, -(-request["calls"] // BLOCK))
    folders = {name: Path(folder) for name, folder in request["bundles"].items()}
    first = next(iter(folders.values()))

    def times(folder: Path) -> list[float]:
        noise = draw.lognormal(0, 0.01, count)
        return [float(number) for number in ms(folder) * noise]

    def by_model() -> dict[str, list[float]]:
        return {name: times(folder) for name, folder in folders.items()}

    return {
        "wall": by_model(),
        "again": times(first),
        "cpu": by_model(),
        "tokenizer": by_model(),
        "device": by_model(),
        "tokens": [TOKENS] * count,
        "sizes": [TOKENS] * count,
        "fixed": {str(length): by_model() for length in request["lengths"]},
        "cold": {},
        "rows": draw.integers(0, len(request["texts"]), count).tolist(),
        "cold_rows": [],
        "block": BLOCK,
        "busy": [],
        "disturbed": False,
    }


def know_times(patch: pytest.MonkeyPatch, ms: Time = alike) -> None:
    """Let every measurement of latency have these answers instead of processes."""
    process = partial(answer, ms=ms)
    patch.setattr(latency, "measure", partial(latency.measure, run_process=process))


@pytest.fixture
def known_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every measurement of latency in this test have known answers."""
    know_times(monkeypatch)
