"""The clock of every timing, and the loop of calls that are timed one after another."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Timer:
    """Two clocks in ns: of the wall, and of this process's CPU time. A test passes its own."""

    wall: Callable[[], int] = time.perf_counter_ns
    cpu: Callable[[], int] = time.process_time_ns

    def seconds(self) -> float:
        """Return the wall clock in s; only differences mean anything."""
        return self.wall() / 1e9

    def time_calls(self, call: Callable[[], object], count: int, lead: int = 0) -> list[float]:
        """Return the ms of each of ``count`` calls, after ``lead`` calls that are not timed."""
        for _ in range(lead):
            call()
        times = []
        for _ in range(count):
            began = self.wall()
            call()
            times.append((self.wall() - began) / 1e6)
        return times


TIMER: Final = Timer()
