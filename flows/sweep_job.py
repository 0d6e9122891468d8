"""A sweep's job: its file, where it keeps what, and how its branches run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from flows.workers import Where
from pipeline.store import disk, locks
from pipeline.store.home import Home
from pipeline.sweep.branch import Folder
from pipeline.sweep.sweep_file import Sweep
from pipeline.terms.errors import IntegrityError, RecipeError

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
        try:
            with disk.speaking(self.out):
                self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise RecipeError(
                f"{self.out}: cannot make this folder: {reason}; give another --out"
            ) from error
        with locks.if_free(self.out / disk.LOCK) as free:
            if not free:
                raise RecipeError(
                    f"{self.out}: this sweep runs already; wait until it ends, or give another "
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
        settings = {"sweep": self.sweep.digest, "threads": job.threads, "device": job.device}
        disk.write(self.out / SETTINGS, settings)
        return job

    def settled(self, threads: int | None) -> Job:
        """Return the job with the threads that the sweep began with, if a branch has begun.

        Args:
            threads: Those that the user asks for, if any.

        Raises:
            RecipeError: The folder is another sweep's, or it began with other threads or on another
                device: results differ, and branches would not compare.
            IntegrityError: The file with the settings is missing or damaged.
        """
        if not Folder(self.out).branches():
            return self
        path = self.out / SETTINGS
        if not path.exists():
            raise IntegrityError(f"{path}: the file is missing; delete {self.out}")
        if disk.read(path, "sweep") != self.sweep.digest:
            raise RecipeError(
                f"{self.out} has the branches of another sweep, or of other values of this one, or "
                "in another order; give another --out, or delete it (what its branches made stays "
                "in the store)"
            )
        for option, value in (("threads", threads), ("device", self.device)):
            begun = disk.read(path, option)
            if value not in (None, begun):
                raise RecipeError(
                    f"{self.out}: this sweep began with --{option} {begun}; give the same, or "
                    "another --out"
                )
        return replace(self, threads=disk.read(path, "threads"))
