"""Leases: what a living process uses, so that ``gc`` leaves it alone.

A lease is a folder ``leases/<id>`` with one empty file per digest, and a lock ``locks/lease-<id>``
that its process holds for as long as it lives. The lock is taken before the folder is made, so a
folder whose lock is free belongs to a dead process: a SIGKILL ends a lease like ``close`` does, and
``gc`` removes what is left of it. Nobody waits for a lease, so a run may train for hours.
"""

from __future__ import annotations

import os
import shutil
import uuid
import weakref
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from rarefy.pipeline.store import disk, locks

FOLDER = "leases"


class Lease:
    """The artifacts that this process uses, until it closes the lease, forgets it or ends."""

    def __init__(self, root: Path) -> None:
        identifier = uuid.uuid4().hex
        self._folder = root / FOLDER / identifier
        file = lock_of(root, identifier)
        lock = locks.take(file)
        with disk.speaking(root):
            self._folder.mkdir(parents=True)
        self.close = weakref.finalize(self, _end, self._folder, lock, file, os.getpid())
        """End the lease; ``gc`` may then delete what it protected."""

    def add(self, digest: str) -> None:
        """Protect an artifact. The caller holds the store's guard, so it cannot vanish now."""
        (self._folder / digest).touch()


def lock_of(root: Path, identifier: str) -> Path:
    """Return the lock that the process with this lease holds."""
    return root / "locks" / f"lease-{identifier}"


def leased(root: Path) -> set[str]:
    """Return the digests that living processes use."""
    digests: set[str] = set()
    for folder in _folders(root):
        with locks.if_free(lock_of(root, folder.name)) as dead:
            if not dead:
                with suppress(FileNotFoundError):  # it has just been closed
                    digests.update(path.name for path in folder.iterdir())
    return digests


def sweep(root: Path) -> None:
    """Remove the leases of dead processes."""
    for folder in _folders(root):
        lock = lock_of(root, folder.name)
        with locks.if_free(lock) as dead:
            if dead:
                shutil.rmtree(folder, ignore_errors=True)
                locks.discard(lock)


def _folders(root: Path) -> list[Path]:
    place = root / FOLDER
    return list(place.iterdir()) if place.is_dir() else []


def _end(folder: Path, lock: FileLock, file: Path, owner: int) -> None:
    if os.getpid() != owner:
        return  # a forked child ends; its parent still uses the lease
    shutil.rmtree(folder, ignore_errors=True)
    locks.discard(file)
    lock.release()
