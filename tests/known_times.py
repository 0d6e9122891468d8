"""Latencies that are known, for tests of something else: no process is started to time calls."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from rarefy.pipeline.measure.latency import session as latency
from rarefy.pipeline.measure.latency.worker import BLOCK, LEAST

MS = 1.0
"""What each call of each model takes, but for one percent of noise."""
TOKENS = 8


def answer(_: str, request: dict[str, Any], **__: Any) -> dict[str, Any]:
    """Answer as a process that times bundles; see ``worker.run``. No two answers are equal."""
    draw = np.random.default_rng()
    count = BLOCK * max(LEAST, -(-request["calls"] // BLOCK))
    names = list(request["bundles"])

    def times() -> list[float]:
        noise = draw.lognormal(0, 0.01, count)
        return [float(ms) for ms in MS * noise]

    def by_model() -> dict[str, list[float]]:
        return {name: times() for name in names}

    return {
        "wall": by_model(),
        "again": times(),
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


def know_times(patch: pytest.MonkeyPatch) -> None:
    """Let every measurement of latency have these answers instead of processes."""
    patch.setattr(latency, "measure", partial(latency.measure, run_process=answer))


@pytest.fixture
def known_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every measurement of latency in this test have known answers."""
    know_times(monkeypatch)
