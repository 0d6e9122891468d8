"""A sweep's job: its file, where it keeps what, and how its branches run."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from flows.workers import Where
from pipeline.store import disk, locks
from pipeline.store.home import Home
from pipeline.sweep.branch import SETTINGS, Folder
from pipeline.sweep.sweep_file import Sweep
from pipeline.terms.errors import RecipeError

HOLDER: Final = "running.json"
"""Says who coordinates the sweep now; a lock tells whether it still lives."""


@dataclass(frozen=True)
class Job:
    """A sweep, where it keeps what, and how its branches run."""

    sweep: Sweep
    home: Home
    out: Path
    where: Where
    threads: int
    device: str
    store: str | None = None
    first: bool = False

    @property
    def apart(self) -> bool:
        """Whether workers see only the store that they share, and not this machine's disk."""
        return self.store is not None and self.where.address is not None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Create the sweep's folder and keep other coordinators out of it.

        Raises RecipeError if one is at work there, or if there can be no such folder.
        """
        holder = self.out / HOLDER
        try:
            with disk.speaking(self.out):
                self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = error.strerror or str(error)
            raise RecipeError(
                f"{self.out}: cannot make this folder: {why}; give another --out"
            ) from error
        with locks.if_free(self.out / disk.LOCK) as free:
            if not free:
                by = disk.read(holder, "by") if holder.exists() else "another process"
                raise RecipeError(
                    f"{self.out}: this sweep runs already, as {by}; wait until it ends, or give "
                    "another --out"
                )
            since = datetime.now(UTC).isoformat(timespec="seconds")
            process = f"process {os.getpid()} on {platform.node()} since {since}"
            disk.write(holder, {"by": process})
            try:
                yield
            finally:
                disk.remove(holder)

    def opened(self, given: int | None) -> Job:
        """Open the sweep's folder; return the job with the threads that the sweep began with.

        Raises RecipeError if others are ``given``, or if it began on another device: their results
        differ, and branches would not compare. Also raises what ``Folder.open`` raises.
        """
        Folder(self.out).open(self.sweep)
        path = self.out / SETTINGS
        if not path.exists():
            disk.write(path, {"threads": self.threads, "device": self.device})
        return self.settled(given)

    def settled(self, given: int | None) -> Job:
        """Return the job as ``opened`` does, and raise the same, but create no folder."""
        path = self.out / SETTINGS
        if path.exists():
            Folder(self.out).open(self.sweep)
        if not path.exists():  # nor if they were those of a sweep that was edited since
            return self
        threads, device = (disk.read(path, key) for key in ("threads", "device"))
        if given not in (None, threads):
            raise RecipeError(
                f"{self.out}: this sweep began with {threads} threads a branch; leave out "
                "--threads, or give another --out"
            )
        if device != self.device:
            raise RecipeError(
                f"{self.out}: this sweep began on {device}; give --device {device}, or another "
                "--out"
            )
        return replace(self, threads=threads)
