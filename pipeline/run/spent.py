"""The time that a stage has worked, attempts that were killed included."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pipeline.store import disk
from pipeline.terms.progress import Progress

FILE: Final = "spent.json"
EVERY: Final = 10.0
"""Seconds between two notes: of an attempt that is killed, so much may be missing."""


class Spent:
    """Seconds of work so far, noted in a stage's work folder as it reports progress."""

    def __init__(self, work: Path) -> None:
        self._path = work / FILE
        self._before, self._began = self._read(), time.perf_counter()
        self._noted = self._began

    @property
    def seconds(self) -> float:
        """Seconds of this attempt and of those before it."""
        return self._before + time.perf_counter() - self._began

    def noting(self, progress: Progress) -> Progress:
        """Return a progress that also notes the time."""

        def report(done: float, total: float, note: str) -> None:
            progress(done, total, note)
            if time.perf_counter() - self._noted >= EVERY:
                self._note()

        return report

    @contextmanager
    def until_it_breaks(self) -> Iterator[None]:
        """Note the time if what is done in this context raises."""
        try:
            yield
        except BaseException:
            self._note()
            raise

    def _note(self) -> None:
        self._noted = time.perf_counter()
        disk.write(self._path, {"seconds": round(self.seconds, 3)})

    def _read(self) -> float:
        try:
            return float(json.loads(self._path.read_text())["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0
