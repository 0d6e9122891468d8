"""The peak memory of this process's descendants together, counting shared pages once."""

from __future__ import annotations

import threading

import psutil

SECONDS = 0.5


class Resident(threading.Thread):
    """Samples the sum of the descendants' proportional set sizes (PSS) inside a ``with`` block.

    ``peak`` is its maximum, ``largest`` the largest resident set of one process, both in bytes.
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
                    continue  # it has ended in the meantime
                together += held.pss
                self.largest = max(self.largest, held.rss)
            self.peak = max(self.peak, together)
