"""Atomic writes of small files, locks on directories, and readable errors of the disk."""

from __future__ import annotations

import errno
import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rarefy.pipeline.store import locks
from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.errors import IntegrityError, ProviderError, RecipeError

LOCK = ".lock"
"""The file in a directory that ``held`` locks."""
_NETWORK = frozenset(
    {"afpfs", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4"}
    | {"smb3", "smbfs", "sshfs", "webdav"}
)
"""File systems whose files are on another machine."""
NO_NAME = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR})
"""Errors of names that no file can have, or that another kind of file has."""
_TEMPORARY = re.compile(r"\..+-[0-9a-f]{32}")
_FULL = (
    "No space left on device",
    "Disk quota exceeded",
    "PytorchStreamWriter failed writing",
    "unexpected pos",
)


def read(path: Path, key: str) -> Any:
    """Return one value of a JSON file in the store. Raises IntegrityError if it is damaged."""
    values = json_text.ours(path, dict[str, Any])
    if key not in values:
        raise IntegrityError(f"{path}: the file is damaged ({key!r} is missing); delete it")
    return values[key]


def write(path: Path, value: Any) -> None:
    """Write JSON atomically: a reader sees either the old file or the complete new one."""
    write_text(path, json.dumps(value))


def write_text(path: Path, text: str) -> None:
    """Write a file atomically, in UTF-8; it is on the disk when this returns."""
    part = temporary(path)
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync(path.parent)


def temporary(path: Path) -> Path:
    """Return a new hidden name beside ``path``, for what replaces it or for what it was."""
    return path.with_name(f".{path.name}-{uuid.uuid4().hex}")


def temporaries(directory: Path) -> Iterator[Path]:
    """Return what has such a name in a directory: in use, or left by a process that was killed."""
    return (path for path in directory.iterdir() if _TEMPORARY.fullmatch(path.name))


def remove(path: Path) -> None:
    """Delete a file so that a crash does not bring it back; it may be missing."""
    path.unlink(missing_ok=True)
    sync(path.parent)


def changed(path: Path) -> float:
    """Return when a file or folder was changed, a Unix time; 0 if another process deleted it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def size(place: Path) -> int:
    """Return the bytes of a file or folder, without what another process deletes meanwhile."""
    files = [place] if place.is_file() else []
    # os.walk goes on if a folder is gone; rglob raises.
    files += [Path(folder, name) for folder, _, names in os.walk(place) for name in names]
    total = 0
    for path in files:
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def sync(path: Path) -> None:
    """Flush a file or a directory to the disk."""
    if os.name == "nt":  # pragma: no cover - Windows flushes no directories
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some file systems flush no directories
        if not (error.errno in (errno.EINVAL, errno.EBADF) and path.is_dir()):
            raise
    finally:
        os.close(descriptor)


def seal(path: Path, like: Path | None = None) -> None:
    """Flush a finished file to the disk and make it read-only, where the file system can do so.

    Whoever may read the file ``like`` may then read this one: safetensors writes for its user only,
    whatever the umask.
    """
    sync(path)
    with suppress(PermissionError):
        mode = path.stat().st_mode | (like.stat().st_mode & 0o444 if like else 0)
        path.chmod(mode & ~0o222)


def sync_tree(directory: Path) -> None:
    """Flush a directory with everything in it to the disk."""
    for path in directory.rglob("*"):
        sync(path)
    sync(directory)


def on_network(directory: Path) -> bool:
    """Return whether a directory is on a network disk.

    There, the lock of a file may be known only to the machine that took it, as on NFS that is
    mounted with ``nolock``.
    """
    import psutil

    place = directory.resolve()
    around = [
        mount
        for mount in psutil.disk_partitions(all=True)
        if place.is_relative_to(mount.mountpoint)
    ]
    around.sort(key=lambda mount: len(mount.mountpoint))  # of two in one place the last is seen
    return bool(around) and around[-1].fstype.removeprefix("fuse.") in _NETWORK


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold an exclusive lock on a directory, through a hidden file in it that goes at the end."""
    path = directory / LOCK
    with locks.held(path):
        try:
            yield
        finally:
            locks.discard(path)  # who waits for it notices and locks a new file


@contextmanager
def speaking(root: Path) -> Iterator[None]:
    """Turn errors about a full disk or missing permission into a ProviderError of one line."""
    try:
        yield
    except Exception as error:
        if is_full(error):
            raise locks.no_space(root) from error
        if isinstance(error, OSError) and error.errno in locks.DENIED:
            where = error.filename or root
            raise ProviderError(
                f"{where}: cannot write here: {error.strerror}; get write permission for {root}, "
                "or choose another folder"
            ) from error
        raise


@contextmanager
def placing(path: Path) -> Iterator[None]:
    """Make the folder of a file that a user has named, which the block writes.

    Raises RecipeError if there can be no such file, e.g. below another file, and what ``speaking``
    raises.
    """
    try:
        with speaking(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield
    except OSError as error:
        raise RecipeError(
            f"{path}: cannot be written: {error.filename or path}: {error.strerror}; choose "
            "another place"
        ) from error


def known(error: Exception) -> Exception:
    """Return an error of the system as the one that users are told; any other error as it is."""
    where = getattr(error, "filename", None) or "the output"
    if isinstance(error, OSError) and error.errno in locks.FULL:
        return ProviderError(f"{where}: {error.strerror}")
    if isinstance(error, ValueError) and "null" in str(error) and "embedded" in str(error):
        return RecipeError("no file has a zero byte in its name")
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        return RecipeError("~NAME in a path is the home of a user whom this machine does not have")
    if not isinstance(error, OSError):
        return error
    if error.errno in locks.DENIED:
        return ProviderError(f"{where}: {error.strerror}; get the permission, or choose another")
    if error.errno in NO_NAME:
        return RecipeError(f"{where!s:.200}: there can be no such file: {error.strerror}")
    return error


def is_full(error: BaseException | None) -> bool:
    """Return whether a full disk caused an error.

    Libraries in Rust and C++ report it only in the message, torch in its own words.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in locks.FULL:
            return True
        if any(words in str(error) for words in _FULL):
            return True
        error = error.__cause__
    return False
