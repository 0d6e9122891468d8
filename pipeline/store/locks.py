"""Locks between processes: files that ``filelock`` locks and the kernel releases.

A lock is released when its process ends, also after SIGKILL. The file stays behind, and an unlocked
file means nothing. Threads of one process exclude each other as processes do.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from rarefy.pipeline.terms.errors import ProviderError

DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""The errors of a user who may not write."""
OFTEN, SELDOM = 0.02, 0.25
"""Seconds between two looks at a lock that somebody else holds."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""The errors of a disk, or a user's share of it, that is full."""


@contextmanager
def held(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock ``path``; call ``waiting`` once if another process or thread holds it.

    What says that it waits looks seldom: who holds the lock may be timing, and looks interrupt.

    Raises ProviderError if the file cannot be locked at all, e.g. for lack of permission.
    """
    lock = _lock(path)
    if not _acquired(lock):
        if waiting is not None:
            waiting()
        with _speaking(path):
            lock.acquire(poll_interval=OFTEN if waiting is None else SELDOM)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def if_free(path: Path) -> Iterator[bool]:
    """Hold the lock and yield True, or yield False at once if another process holds it."""
    lock = _lock(path)
    free = _acquired(lock)
    try:
        yield free
    finally:
        if free:
            lock.release()


def take(path: Path) -> FileLock:
    """Acquire a lock that nobody else holds, until ``release`` or the end of the process."""
    lock = _lock(path)
    with _speaking(path):
        lock.acquire()
    return lock


def discard(path: Path) -> None:
    """Delete the file of a lock that this process holds, or leave it if the system refuses.

    Windows deletes no file that is open.
    """
    with suppress(PermissionError):
        path.unlink(missing_ok=True)


def _lock(path: Path) -> FileLock:
    # A marker file instead of a kernel lock would outlive a killed process.
    return FileLock(path, thread_local=False, poll_interval=OFTEN, fallback_to_soft=False)


def _acquired(lock: FileLock) -> bool:
    with _speaking(Path(lock.lock_file)):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
    return True


def no_space(path: Path) -> ProviderError:
    """Return the error of a disk that is full."""
    return ProviderError(
        f"{path}: the disk is full; free some space and run again, published artifacts are intact"
    )


@contextmanager
def _speaking(path: Path) -> Iterator[None]:
    """Turn an error that is not contention into a ProviderError of one line."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        if error.errno in FULL:
            raise no_space(path) from error
        reason = error.strerror or str(error)
        if error.errno in DENIED:
            raise ProviderError(
                f"{path}: cannot lock this file: {reason}; another user may own it: get write "
                "permission for the folder, or choose another one with --home"
            ) from error
        raise ProviderError(
            f"{path}: cannot lock this file: {reason}; the file system may have no locks: choose a "
            "folder on a local disk with --home"
        ) from error
