"""A sweep's job: its file, where it keeps what, and how its branches run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rarefy.flows.sweep.workers import Where
from rarefy.pipeline.store import disk, locks
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.sweep.branch import Folder
from rarefy.pipeline.sweep.file import Sweep
from rarefy.pipeline.terms.errors import RecipeError

SETTINGS: Final = "settings.json"
"""The file with what all branches of a folder have in common."""
STUDY: Final = "study.log"
"""The file of a search."""


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
        lock = self.out / disk.LOCK
        with disk.placing(lock):
            lock.touch()
        with locks.if_free(lock) as free:
            if not free:
                raise RecipeError(
                    f"{self.out}: this sweep is already running; wait for its end, or give another "
                    "--out"
                )
            yield

    def opened(self, threads: int | None) -> Job:
        """Return the job as ``settled`` does, and write what the sweep begins with.

        A sweep that was edited before any branch began starts anew.
        """
        job = self.settled(threads)
        self.out.mkdir(parents=True, exist_ok=True)
        if not Folder(self.out).branches():
            disk.remove(self.out / STUDY)
        disk.write(self.out / SETTINGS, job.settings)
        return job

    @property
    def settings(self) -> dict[str, Any]:
        """What all branches have in common: results differ with it, and would not compare."""
        return {"sweep file": self.sweep.digest, "device": self.device, "threads": self.threads}

    def settled(self, threads: int | None) -> Job:
        """Return the job with the threads that the sweep began with, if a branch has begun.

        Args:
            threads: Those that the user asks for, if any.

        Raises:
            RecipeError: The folder is another sweep's, or it began with other threads or on another
                device.
        """
        if not Folder(self.out).branches():
            return self
        begun = {name: disk.read(self.out / SETTINGS, name) for name in self.settings}
        job = replace(self, threads=threads or begun["threads"])
        for name, value in job.settings.items():
            if value != begun[name]:
                raise RecipeError(
                    f"{self.out}: this sweep began with {name} {begun[name]}; give the same, or "
                    "another --out (what its branches made stays in the store)"
                )
        return job
