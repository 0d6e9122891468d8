"""Whether a session has met enough processes to call a model fast enough.

Some models are slow in some of their processes: where their weights lie, on which core they run. A
session that meets no slow one has a narrow interval in the wrong place, however it is computed. If
one process of five is slow, nine processes meet none in 13 of 100 sessions, 17 in 2.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

FEWEST: Final = 17
"""Processes that call a model fast enough near the limit."""
ROOM: Final = 1.25
"""Farther from the limit than that, fewer do: the limit holds if all processes are slow ones."""
NOTABLE: Final = 1.1
"""How many times as long as the middle process a slow one takes, at least."""


def is_enough(processes: int, room: float) -> bool:
    """Return whether so many processes may call a model fast enough.

    ``room``: how many times as long calls would take at the limit as at the interval's nearer end.
    """
    if room >= ROOM:
        return True
    return processes >= FEWEST


def slowest(
    candidate: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]] | None = None
) -> float:
    """Return how many times as long the slowest process takes as the middle one.

    That is of the medians of the processes' calls, or of their ratios to the baseline's.
    """
    times = [float(np.median(calls)) for calls in candidate]
    if baseline is not None:
        for process, calls in enumerate(baseline):
            times[process] /= float(np.median(calls))
    middle = float(np.median(times))
    return max(times) / middle
