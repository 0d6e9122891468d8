"""Atomic writes of small JSON files, locks on directories, and readable errors for full disks."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.terms.errors import IntegrityError, ProviderError

_FULL = (
    "No space left on device",
    "Disk quota exceeded",
    "PytorchStreamWriter failed writing",
    "unexpected pos",
)


def read(path: Path, key: str) -> Any:
    """Return one value of a JSON file in the store. Raises IntegrityError if it is damaged."""
    try:
        return json.loads(path.read_text())[key]
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{path}: the file is damaged; delete it") from None


def write(path: Path, value: Any) -> None:
    """Write JSON atomically: a reader sees either the old file or the complete new one."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with temporary.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file or a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold an exclusive lock on a directory. The kernel releases it when the process exits."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def speaking(root: Path) -> Iterator[None]:
    """Turn errors about a full or read-only disk into a ProviderError of one line."""
    try:
        yield
    except Exception as error:
        if is_full(error):
            raise ProviderError(
                f"{root}: the disk is full; free some space and run again, published artifacts are "
                "intact"
            ) from error
        if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES):
            raise ProviderError(f"{root}: cannot write here: {error.strerror}") from error
        raise


def is_full(error: BaseException | None) -> bool:
    """Return whether a full disk caused an error.

    Libraries in Rust and C++ report it only in the message, torch in its own words.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(error) for words in _FULL):
            return True
        error = error.__cause__
    return False
