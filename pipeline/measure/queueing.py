"""Compute when the requests of an open queue arrive and when each is served; uses no clock."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Arrivals = Literal["poisson", "constant"]
TENTHS = np.linspace(0, 100, 1001)
"""The percentiles that ``replayed`` returns."""
LONG = 200_000
"""Requests of a queue that is as good as endless."""
REPLAYED = 2_000_000
"""Requests of all short replays together."""


def arrivals(rate: float, seconds: float, seed: int, kind: Arrivals = "poisson") -> list[float]:
    """Return the times within ``seconds`` at which requests are sent, in ascending order.

    ``poisson``: independent users, so the gaps are exponential with mean 1/rate. ``constant``: one
    request every 1/rate, starting at 0.
    """
    if kind == "constant":
        return np.arange(0, seconds, 1 / rate).tolist()
    generator = np.random.default_rng(seed)
    moments: list[float] = []
    now = float(generator.exponential(1 / rate))
    while now < seconds:
        moments.append(now)
        now += float(generator.exponential(1 / rate))
    return moments


def fifo(sent: Sequence[float], service: Sequence[float], workers: int) -> NDArray[np.float64]:
    """Return when each request is answered, first come, first served by the first free worker.

    ``sent``: ascending; ``service``: how long each request takes. Both use the same unit, which is
    also that of the result.
    """
    free = [0.0] * workers
    answered = np.empty(len(sent))
    for index, (moment, length) in enumerate(zip(sent, service, strict=True)):
        began = max(moment, heapq.heappop(free))
        answered[index] = began + length
        heapq.heappush(free, float(answered[index]))
    return answered


def replayed(
    rate: float, count: int, service: Sequence[float], workers: int, kind: Arrivals, seed: int = 0
) -> NDArray[np.float64]:
    """Return by what percentiles of a run of ``count`` requests miss those of an endless one.

    Each row has the ratios endless / run of one replay, for ``TENTHS``. Replays are queues from
    empty on whose service times (ms) are drawn from those of the run: waiting times depend on each
    other for longer than a short run lasts, so its own spread says too little.
    """
    generator = np.random.default_rng(seed)
    service_times = np.asarray(service)
    short = min(count, REPLAYED // 40)
    times = min(200, REPLAYED // short)

    def percentiles(requests: int) -> NDArray[np.float64]:
        lengths = generator.choice(service_times, requests)
        gaps = np.full(requests, 1e3 / rate)
        if kind == "poisson":
            gaps = generator.exponential(1e3 / rate, requests)
        sent = np.cumsum(gaps)
        response = _waited(sent, lengths, workers) + lengths
        return np.asarray(np.percentile(response, TENTHS), np.float64)

    endless = percentiles(LONG)
    ratios = []
    for _ in range(times):
        ratios.append(endless / percentiles(short))
    return np.array(ratios)


def _waited(
    sent: NDArray[np.float64], service: NDArray[np.float64], workers: int
) -> NDArray[np.float64]:
    """Return how long each request waits; for one worker by Lindley's recursion (1952)."""
    if workers > 1:
        answered = fifo(sent.tolist(), service.tolist(), workers)
        return answered - sent - service
    gaps = np.diff(sent)
    rises = np.cumsum(service[:-1] - gaps)
    steps = np.concatenate([[0.0], rises])
    waited: NDArray[np.float64] = steps - np.minimum.accumulate(steps)
    return waited
