"""How many processes a session times: when it has enough to judge, and when it stops.

Some models are slow in some of their processes: where their weights lie, on which core they run. A
session that meets no slow one has a narrow interval in the wrong place, however it is computed. If
one process of five is slow, nine processes meet none in 13 of 100 sessions, 20 in one. So there is
a least number, and the growing data is looked at a few times only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np

Timed = TypeVar("Timed")
"""What is gathered: latencies, or throughput."""
LOOKS, GROWTH = 4, 2
"""Looks at growing data: after 5, 10, 20 and 40 processes."""
PATIENCE = 3
"""How many times ``seconds`` are spent at most, if only more processes are lacking."""
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


@dataclass(frozen=True)
class Rule(Generic[Timed]):
    """Run ``processes`` processes; with ``clear``, go on until it returns True.

    ``clear`` gets what was gathered so far. ``seconds`` is the time limit; it ends the session
    only after ``processes`` processes. With ``repeated``, which returns what so many processes like
    those so far would have gathered, it goes on to ``FEWEST`` for ``PATIENCE`` times ``seconds`` at
    most if that would be clear: then their number alone is lacking.
    """

    processes: int
    seconds: float
    clear: Callable[[Timed], bool] | None = None
    repeated: Callable[[Timed, int], Timed] | None = None

    @property
    def looks(self) -> list[int]:
        """The numbers of processes after which to look at the data."""
        if self.clear is None:
            return [self.processes]
        counts = []
        for look in range(LOOKS):
            count = self.processes * GROWTH**look
            counts.append(math.ceil(count))
        counts[-1] = max(counts[-1], FEWEST)
        return counts

    def over(self, count: int, spent: float, times: float = 1) -> bool:
        """Return whether one more process, after ``count`` in ``spent`` s, exceeds ``seconds``.

        Or so many ``times`` as many.
        """
        expected = spent * (count + 1) / count
        return count >= self.processes and expected > times * self.seconds

    def _lacks_processes(self, gathered: Timed, count: int, spent: float) -> bool:
        """Return whether the time limit waits: more processes like these would be clear."""
        if self.clear is None or self.repeated is None:
            return False
        if count >= FEWEST or self.over(count, spent, PATIENCE):
            return False
        more = self.repeated(gathered, FEWEST)
        return self.clear(more)

    def stopped(self, gathered: Timed, count: int, spent: float) -> str:
        """Return why sampling stops after ``count`` processes, "" if it goes on."""
        over = self.over(count, spent)
        waits = over and self._lacks_processes(gathered, count, spent)
        if waits and count not in self.looks:  # a look more would be a chance more
            return ""
        if self.clear is not None and self.clear(gathered):
            return "the results were clear"
        if count == self.looks[-1]:
            return f"the limit of {count} processes was reached"
        if over and not waits:
            return f"the time limit of {self.seconds:g} s was reached"
        return ""
