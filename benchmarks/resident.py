"""The most memory that this process's descendants hold together, pages that they share once."""

from __future__ import annotations

import threading

import psutil

SECONDS = 0.5


class Resident(threading.Thread):
    """Samples the sum of the descendants' proportional set sizes (PSS) while it is entered.

    ``peak`` is its most, ``largest`` the most of one process's resident set, both in bytes.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = self.largest = 0
        self._done = threading.Event()

    def __enter__(self) -> Resident:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        while not self._done.wait(SECONDS):
            together = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    held = process.memory_full_info()
                except psutil.Error:
                    continue  # it has ended meanwhile
                together += held.pss
                self.largest = max(self.largest, held.rss)
            self.peak = max(self.peak, together)
