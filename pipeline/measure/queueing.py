"""Compute when the requests of an open queue arrive and when each is served; uses no clock."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Arrivals = Literal["poisson", "constant"]


def arrivals(rate: float, seconds: float, seed: int, kind: Arrivals = "poisson") -> list[float]:
    """Return the times within ``seconds`` at which requests are sent, in ascending order.

    ``poisson``: independent users, so the gaps are exponential with mean 1/rate. ``constant``: one
    request every 1/rate, starting at 0.
    """
    if kind == "constant":
        return [float(moment) for moment in np.arange(0, seconds, 1 / rate)]
    generator = np.random.default_rng(seed)
    moments: list[float] = []
    now = 0.0
    while (now := now + float(generator.exponential(1 / rate))) < seconds:
        moments.append(now)
    return moments


def fifo(sent: Sequence[float], service: Sequence[float], workers: int) -> NDArray[np.float64]:
    """Return when each request is answered, first come, first served by the first free worker.

    ``sent``: ascending; ``service``: how long each request takes. Both use the same unit, which is
    also that of the result.
    """
    free = [0.0] * workers
    answered = np.empty(len(sent))
    for index, (moment, length) in enumerate(zip(sent, service, strict=True)):
        answered[index] = max(moment, heapq.heappop(free)) + length
        heapq.heappush(free, float(answered[index]))
    return answered
