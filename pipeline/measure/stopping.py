"""When a session of timing has seen enough: a few looks at growing data, and no more."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.measure.measurements import Latency

LOOKS, GROWTH = 4, 1.75
"""Looks at growing data: after 5, 9, 16 and 27 processes."""


@dataclass(frozen=True)
class Rule:
    """Take at least ``processes`` processes; with ``clear``, more until it says it is enough.

    ``clear`` sees what was gathered so far. ``seconds`` end the session once the least number of
    processes is there.
    """

    processes: int
    seconds: float
    clear: Callable[[Latency], bool] | None = None

    @property
    def looks(self) -> list[int]:
        """The numbers of processes after which to look."""
        if self.clear is None:
            return [self.processes]
        return [math.ceil(self.processes * GROWTH**look) for look in range(LOOKS)]

    def over(self, count: int, spent: float) -> bool:
        """Whether another process would end after ``seconds``, ``count`` having taken ``spent``."""
        return count >= self.processes and spent * (count + 1) / count > self.seconds

    def stopped(self, gathered: Latency, count: int, spent: float) -> str:
        """Return why sampling ends after ``count`` processes, "" if it goes on."""
        if self.clear is not None and self.clear(gathered):
            return "every budget on it was clear"
        if count == self.looks[-1]:
            return f"{count} processes were asked for"
        return f"the {self.seconds:g} s were over" if self.over(count, spent) else ""
