"""Small JSON files written whole or not at all, folders held, a full disk said in one line."""

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
    """Return one value of a JSON file of the store. Raises IntegrityError where it is damaged."""
    try:
        return json.loads(path.read_text())[key]
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{path}: damaged; delete this file") from None


def write(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the whole new one."""
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
    """Hold an exclusive lock on a directory; the kernel frees it when the process dies."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def speaking(root: Path) -> Iterator[None]:
    """Say a full or read-only disk in one line: raises ProviderError."""
    try:
        yield
    except Exception as error:
        if is_full(error):
            raise ProviderError(
                f"{root}: the disk is full; nothing published is lost, run again when there is room"
            ) from error
        if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES):
            raise ProviderError(f"{root}: cannot be written: {error.strerror}") from error
        raise


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error: Rust and C++ say so in words (torch: in odd ones)."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(error) for words in _FULL):
            return True
        error = error.__cause__
    return False
