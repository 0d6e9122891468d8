"""A time that never goes back, so that what is later in a store is later whatever the clock said.

It is a hybrid logical clock (Kulkarni et al. 2014, "Logical physical clocks"): the wall clock, but
at least a millisecond after the last time that the store gave. If the clock was ahead for a while,
times go on from there, a millisecond each, until it has caught up.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rarefy.pipeline.store import disk
from rarefy.pipeline.terms.errors import IntegrityError

Clock = Callable[[], datetime]
FILE = "time.json"
TICK = timedelta(milliseconds=1)


def wall() -> datetime:
    """Return what this machine's clock says."""
    return datetime.now(UTC)


def next_time(root: Path, clock: Clock) -> datetime:
    """Return the clock's time, or the next after the store's last; the caller holds its guard.

    If the file with the last time is missing or damaged, the clock alone decides.
    """
    path = root / FILE
    time = clock()
    with suppress(OSError, IntegrityError, ValueError, TypeError, OverflowError):
        last = datetime.fromisoformat(disk.read(path, "last"))
        time = max(time, last + TICK)
    disk.write(path, {"last": time.isoformat(timespec="microseconds")})
    return time
