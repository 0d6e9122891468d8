"""Decide when to stop timing, with a small number of looks at the growing data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rarefy.pipeline.measure.statistics.enough import FEWEST

Timed = TypeVar("Timed")
"""What is gathered: latencies, or throughput."""
LOOKS, GROWTH = 4, 2
"""Looks at growing data: after 5, 10, 20 and 40 processes."""
PATIENCE = 3
"""How many times ``seconds`` are spent at most, if only more processes are lacking."""


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
