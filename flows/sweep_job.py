"""A sweep's job: its file, where it keeps what, and how its branches run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from flows.workers import Where
from pipeline.store import disk
from pipeline.store.home import Home
from pipeline.sweep.branch import Folder
from pipeline.sweep.sweep_file import Sweep
from pipeline.terms.errors import RecipeError

SETTINGS: Final = "settings.json"


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

    def opened(self, given: int | None) -> Job:
        """Open the sweep's folder; return the job with the threads that the sweep began with.

        Raises RecipeError if others are ``given``, or if it began on another device: their results
        differ, and branches would not compare. Also raises what ``Folder.open`` raises.
        """
        Folder(self.out).open(self.sweep)
        path = self.out / SETTINGS
        if not path.exists():
            disk.write(path, {"threads": self.threads, "device": self.device})
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
