"""Decide when to stop timing, with a small number of looks at the growing data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Timed = TypeVar("Timed")
"""What is gathered: latencies, or throughput."""
LOOKS, GROWTH = 4, 1.75
"""Looks at growing data: after 5, 9, 16 and 27 processes."""


@dataclass(frozen=True)
class Rule(Generic[Timed]):
    """Run ``processes`` processes; with ``clear``, go on until it returns True.

    ``clear`` gets what was gathered so far. ``seconds`` is the time limit; it ends the session
    only after ``processes`` processes.
    """

    processes: int
    seconds: float
    clear: Callable[[Timed], bool] | None = None

    @property
    def looks(self) -> list[int]:
        """The numbers of processes after which to look at the data."""
        if self.clear is None:
            return [self.processes]
        counts = []
        for look in range(LOOKS):
            count = self.processes * GROWTH**look
            counts.append(math.ceil(count))
        return counts

    def over(self, count: int, spent: float) -> bool:
        """Return whether one more process, after ``count`` in ``spent`` s, exceeds ``seconds``."""
        expected = spent * (count + 1) / count
        return count >= self.processes and expected > self.seconds

    def stopped(self, gathered: Timed, count: int, spent: float) -> str:
        """Return why sampling stops after ``count`` processes, "" if it goes on."""
        if self.clear is not None and self.clear(gathered):
            return "the results were clear"
        if count == self.looks[-1]:
            return f"the limit of {count} processes was reached"
        if self.over(count, spent):
            return f"the time limit of {self.seconds:g} s was reached"
        return ""
