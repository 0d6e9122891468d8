"""Whether a session has met enough processes to call a model fast enough.

Some models are slow in some of their processes: where their weights lie, on which core they run. A
session that meets no slow one has a narrow interval in the wrong place, however it is computed. If
one process of five is slow, nine processes meet none in 13 of 100 sessions, 20 in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

FEWEST: Final = 20
"""Processes that call a model fast enough near the limit."""
ROOM: Final = 1.25
"""Farther from the limit than that, fewer do: the limit holds if all processes are slow ones."""
SPARING: Final = 30
"""Of so many processes one may be slow: if one of five is, 1.1 in 100 sessions meet no second."""
NOTABLE: Final = 1.1
"""How many times as long as the middle process a slow one takes, at least."""


def is_enough(processes: int, room: float, slowest: float) -> bool:
    """Return whether so many processes may call a model fast enough.

    A notably slow process must have met the limit as well: a median of all calls hardly moves if
    one process of six is slow, but is far higher if one of three is, which may be the truth.

    Args:
        processes: Their number.
        room: How many times as long calls would take at the limit as at the interval's nearer end.
        slowest: See ``slowest``, without those that are ``spared``.
    """
    if slowest >= NOTABLE and room < slowest:
        return False
    if room >= ROOM:
        return True
    return processes >= FEWEST


def spared(processes: int) -> int:
    """Return how many of so many processes may be slow and miss the limit."""
    return int(processes >= SPARING)


def slowest(
    candidate: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]], left_out: int = 0
) -> float:
    """Return how many times as long the candidate's slowest process takes as its middle one.

    That is of the median ratio of its calls to the baseline's, which had the same rows and machine.
    ``left_out``: so many slower ones are not looked at.
    """
    medians = []
    for ours, theirs in zip(candidate, baseline, strict=False):
        ratios = [our / their for our, their in zip(ours, theirs, strict=False)]
        median = float(np.median(ratios))
        medians.append(median)
    middle = float(np.median(medians))
    return sorted(medians)[-1 - left_out] / middle
