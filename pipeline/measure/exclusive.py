"""One measurement at a time on a machine, whichever project, store or engine asks for it.

Two processes that time at once slow each other down, and both numbers are wrong. So whoever times
holds a lock that all of a user's projects on the machine share. A flow adds Prefect's global limit
(``also``), which holds for other users and containers too. Neither is part of a fingerprint: they
say when something is measured, not what.
"""

from __future__ import annotations

import os
import platform
import re
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Final

from rarefy.pipeline.store import locks
from rarefy.pipeline.terms.errors import ProviderError
from rarefy.pipeline.terms.progress import Progress

MACHINE: Final = "RAREFY_MACHINE"
"""Environment variable that names the machine, if its host name does not, as in a container."""
LOCKS: Final = "RAREFY_LOCKS"
"""Environment variable that names another folder for the lock, e.g. one that users share."""
WHY: Final = "another run is measuring on this machine"

Waiting = Callable[[str], None]
"""Shows why something waits."""

Limit = Callable[[Waiting], AbstractContextManager[None]]
"""Holds something more while the machine is measured; says to what it is given why it must wait."""

_limit: ContextVar[Limit | None] = ContextVar("limit", default=None)
_held = threading.local()


def machine() -> str:
    """Return the plain name of this machine."""
    return plain(os.environ.get(MACHINE) or platform.node())


def plain(name: str) -> str:
    """Return a machine's name in lowercase letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "localhost"


def _is_anothers(path: Path) -> bool:
    """Return whether a file is one that filelock refuses: in a sticky folder, of a third user."""
    around = path.parent.stat()
    sticky = around.st_mode & stat.S_ISVTX
    return bool(sticky) and path.stat().st_uid not in (os.getuid(), around.st_uid)


def lock_file() -> Path:
    """Return the machine's lock. Its folder is created; a home folder may be on several machines.

    Raises ProviderError if no folder can be written.
    """
    setting = os.environ.get(LOCKS)
    private = Path(tempfile.gettempdir()) / f"rarefy-{getattr(os, 'getuid', lambda: 'user')()}"
    reason = ""
    for folder in [Path(setting)] if setting else [_cache(), private]:
        path = folder / f"measuring-{machine()}.lock"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if setting and not path.exists():
                path.touch()
                path.chmod(0o666)  # whatever the umask: other users lock it as well
        except OSError as error:
            reason = f"{folder}: {error.strerror}"
        else:
            if path.exists() and _is_anothers(path):
                reason = f"{folder} has the sticky bit, and {path.name} is another user's"
            elif os.access(path if path.exists() else folder, os.W_OK):
                return path
            else:
                reason = f"{folder}: no write permission"
    raise ProviderError(
        f"no folder for the lock of this machine ({reason}); name one that can be written in the "
        f"environment variable {LOCKS}"
    )


def _cache() -> Path:
    try:
        return Path.home() / ".cache" / "rarefy"
    except RuntimeError:  # a user without a home folder
        return Path(tempfile.gettempdir()) / "rarefy"


def noted(progress: Progress) -> Waiting:
    """Return what to call to show on a stage's progress why it waits for the machine."""
    return lambda why: progress(0, 0, f"{why}; waiting")


@contextmanager
def also(limit: Limit | None) -> Iterator[None]:
    """Within this context, measurements also hold ``limit``."""
    before = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(before)


@contextmanager
def measuring(waiting: Waiting = lambda _: None) -> Iterator[None]:
    """Measure alone on this machine; call ``waiting`` if another process or thread measures.

    A thread that measures already goes on. Raises ProviderError if the lock cannot be taken.
    """
    if getattr(_held, "by_this_thread", False):
        yield
        return
    limit = _limit.get()
    with ExitStack() as stack:
        if limit is not None:
            stack.enter_context(limit(waiting))
        path = lock_file()
        try:
            stack.enter_context(locks.held(path, partial(waiting, WHY)))
        except ProviderError as error:  # its remedy is of the store's locks
            reason = str(error).partition(";")[0]
            raise ProviderError(
                f"{reason}; name a folder on a local disk in the environment variable {LOCKS}"
            ) from error
        _held.by_this_thread = True
        try:
            yield
        finally:
            _held.by_this_thread = False
