"""Compare and swap of one small file on a remote file system, where the service has it.

- ``s3``: ``If-Match`` with the file's ETag, ``If-None-Match: *`` for a new file.
- ``gs``: ``ifGenerationMatch`` with the file's generation, 0 for a new file.
- ``az``: ``If-Match`` with the blob's ETag, no overwriting for a new file.
- ``file``: the caller holds a lock; the file is replaced by a rename.

On any other file system (``memory://``, ``sftp://``, …) the file is written unconditionally: of two
writers at the same moment, the later one wins. An S3-compatible service that ignores the condition
does the same.

The conditions are sent as the packages s3fs, gcsfs and adlfs send them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from pipeline.store import disk

S3 = frozenset({"s3", "s3a"})
GOOGLE = frozenset({"gs", "gcs"})
AZURE = frozenset({"az", "abfs", "abfss"})


class ChangedError(Exception):
    """Another process wrote the file after it was read; read it again and decide again."""


class LostError(Exception):
    """The connection broke while the file was written: nobody here knows whether it was."""


@dataclass(frozen=True)
class Seen:
    """A file's bytes, None if it does not exist, and what the service calls this version of it."""

    data: bytes | None
    version: str | None


def protocols(system: Any) -> set[str]:
    """Return the names of a file system's protocol."""
    return {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)


def read(system: Any, path: str) -> Seen:
    """Read a file and its version.

    The version is read first. If the file changes between the two, it is older than the bytes, and
    ``replace`` refuses; it can never be newer than them.
    """
    version = None
    try:
        if key := _version_key(system):
            system.invalidate_cache()
            version = str(system.info(path)[key])
        return Seen(system.cat_file(path), version)
    except FileNotFoundError:
        return Seen(None, None)


def replace(system: Any, path: str, data: bytes, seen: Seen) -> None:
    """Write a file if it is still as it was seen.

    Raises ChangedError if it is not, and LostError if the service could not be asked whether a
    write that failed has arrived after all.
    """
    try:
        _replace(system, path, data, seen)
    except Exception as error:
        try:
            now = read(system, path)
        except Exception:
            raise LostError(path) from error
        if now.data == data:
            return  # the request arrived although its answer did not, or it was repeated
        if _refused(error) or now != seen:
            raise ChangedError(path) from error
        raise


def _replace(system: Any, path: str, data: bytes, seen: Seen) -> None:
    names = protocols(system)
    new = seen.data is None
    if isinstance(system, LocalFileSystem):
        disk.write_text(Path(path), data.decode())
    elif not _version_key(system):
        system.pipe_file(path, data)
    elif new:
        system.pipe_file(path, data, mode="create")
    elif names & S3:
        system.pipe_file(path, data, IfMatch=seen.version)
    elif names & AZURE:
        from azure.core import MatchConditions

        condition = MatchConditions.IfNotModified
        system.pipe_file(path, data, etag=seen.version, match_condition=condition)
    else:
        bucket, name, _ = system.split_path(path)
        described = json.dumps({"name": name}).encode()
        body = (  # what gcsfs sends, which has no parameter for the condition
            b"--part\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
            + described
            + b"\r\n--part\r\nContent-Type: application/octet-stream\r\n\r\n"
            + data
            + b"\r\n--part--"
        )
        system.call(
            "POST",
            f"{system._location}/upload/storage/v1/b/{bucket}/o",
            uploadType="multipart",
            ifGenerationMatch=seen.version,
            headers={"Content-Type": "multipart/related; boundary=part"},
            data=body,
            json_out=True,
        )


def _version_key(system: Any) -> str | None:
    """Return the key of a file's version in ``info``; None if the service has no such condition."""
    names = protocols(system)
    if names & S3:
        return "ETag"
    if names & GOOGLE:
        return "generation"
    return "etag" if names & AZURE else None


def _refused(error: BaseException) -> bool:
    """Return whether a service refused a write because its condition did not hold.

    A file that is missing was deleted after it was seen, which is a change as well.
    """
    if isinstance(error, FileExistsError | FileNotFoundError):
        return True
    cause = error.__cause__
    response = getattr(cause, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    conflicts = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
    return code in conflicts or status in (409, 412)
