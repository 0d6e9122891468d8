"""The files in a folder behind a URL, through fsspec: every error is a RarefyError of one line.

The folder is on ``s3://``, ``gs://``, ``az://``, ``file://`` or any other file system that fsspec
supports; ``https://`` is read-only. Credentials come from the environment or the provider's
configuration files, never from the URL.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import fsspec
from fsspec.callbacks import Callback
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations

from rarefy.pipeline.store import disk
from rarefy.pipeline.store.remote import compare_and_swap as swap
from rarefy.pipeline.terms import credentials
from rarefy.pipeline.terms.errors import IntegrityError, ProviderError, RarefyError, RecipeError
from rarefy.pipeline.terms.wording import misspelt

BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl"})
"""Protocols without real folders; creating a folder there could create the bucket."""
READ_ONLY = frozenset({"http", "https"})
_CHUNK = 2**20
_LONG = 7 * 24 * 3600.0
"""Seconds after which an upload is not in progress any more."""
_BUSY = frozenset({408, 425, 429})
"""What a web server answers, beside 5xx, if it may answer otherwise the next time."""
_DENIED = frozenset({401, 403})
_PART = 50 * 2**20
"""Bytes. s3fs sends a file of less than two parts in one request."""


class DeniedError(ProviderError):
    """A file may not be read with the credentials of this process, or there are none (exit 5)."""


class _Limit(Callback):  # type: ignore[misc]
    """Stops a download that has more bytes than the service said, before it fills the disk."""

    def __init__(self, path: str, limit: int) -> None:
        super().__init__()
        self.path = path
        self.limit = limit

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        if self.value > self.limit:
            raise ProviderError(f"{self.path} has more than the {self.limit:,} bytes that it had")


@dataclass(frozen=True)
class Description:
    """The size of a file in bytes, and what the service calls this version of it: its ETag.

    Each is None if the service does not say. ``address``: where the file is, if the service sent
    the request on to there; it may be another each time.
    """

    size: int | None
    version: str | None
    address: str = field(default="", compare=False)


@dataclass(frozen=True)
class RemoteFiles:
    """A folder behind a URL: ``root`` is its path in the file system ``system``."""

    url: str
    system: Any
    root: str

    @classmethod
    def open(cls, url: str) -> Self:
        """Open a remote without reading anything yet.

        Raises RecipeError if the URL is invalid. Raises ProviderError if fsspec knows the protocol
        but the package for its file system is not installed.
        """
        if not url:
            raise RecipeError("a remote needs a URL, e.g. s3://bucket/rarefy")
        if credentials.found_in(url):
            raise RecipeError(credentials.REFUSED)
        with _speaking(url):
            web = url.partition("://")[0] in READ_ONLY
            system, root = fsspec.url_to_fs(url, **(_patience() if web else {}))
            system.invalidate_cache()
        return cls(url, system, root.rstrip("/"))

    @property
    def protocols(self) -> set[str]:
        """The names of the file system's protocol."""
        return swap.protocols(self.system)

    @property
    def on_disk(self) -> bool:
        """Whether the folder is on this machine's disk, or mounted there."""
        return isinstance(self.system, LocalFileSystem)

    def check_writable(self) -> None:
        """Raise RecipeError if the remote is read-only or its bucket does not exist."""
        if self.protocols & READ_ONLY:
            raise RecipeError(f"{self.url}: this remote is read-only")
        self.check_place()

    def check_exists(self) -> None:
        """Raise RecipeError if there is nothing at the URL, so that it may be mistyped.

        A bucket has no folders: a path that holds nothing yet is an error only if one with nearly
        the same name is beside it.
        """
        self.check_place()
        if self._exists(self.root):
            return
        parent, _, name = self.root.rpartition("/")
        if not self.protocols & BUCKETS:
            raise RecipeError(
                f"{self.url}: no such folder; correct the URL, or create the folder for a first "
                "release"
            )
        with _speaking(self.url):
            paths = self.system.ls(parent, detail=False)
        near = misspelt(name, [path.rstrip("/").rpartition("/")[2] for path in paths])
        if near is not None:
            raise RecipeError(f"{self.url}: nothing is there; did you mean {near!r}?")

    def check_place(self) -> None:
        """Raise RecipeError if the bucket, or the remote's parent folder, does not exist."""
        place = None
        if self.protocols & BUCKETS:
            place = self.root.split("/", 1)[0]
        elif self.on_disk:
            place = self.root.rpartition("/")[0] or "/"
        if place is not None and not self._exists(place):
            raise RecipeError(f"{self.url}: no such bucket or folder: {place}")

    def _exists(self, place: str) -> bool:
        """Return whether something is there, as far as this user may know.

        On S3 and on the web, any failure is a no to the file system's own ``exists``.
        """
        with _speaking(self.url):
            if not self.protocols & (swap.S3 | READ_ONLY):
                return bool(self.system.exists(place))
            try:
                self.system.info(place)
            except FileNotFoundError as error:
                self._check_missing(error)
                return False
            except PermissionError:
                return True  # whoever reads or writes there is told what is refused
        return True

    def _check_missing(self, error: FileNotFoundError) -> None:
        """Raise what an error on the web came from, unless the server said that nothing is there.

        fsspec calls whatever goes wrong while it asks about a file a missing file.
        """
        cause = error.__cause__
        if self.protocols & READ_ONLY and cause is not None:
            status = getattr(cause, "status", None)
            if status is None or status >= 500 or status in _BUSY:
                raise cause

    def sizes(self, folder: str) -> dict[str, int]:
        """Return relative path -> size in bytes for all files below a folder."""
        start = f"{self.root}/{folder}/"
        with _speaking(self.url):
            files = self.system.find(start, detail=True)
        return {path.removeprefix(start): info["size"] for path, info in files.items()}

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder. Returns [] if it is missing."""
        with _speaking(self.url):
            try:
                paths = self.system.ls(f"{self.root}/{folder}", detail=False)
            except FileNotFoundError:
                return []
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in paths)

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes. Returns None if the file does not exist."""
        with _speaking(self.url):
            try:
                data: bytes = self.system.cat_file(f"{self.root}/{path}")
            except FileNotFoundError:
                return None
        return data

    def describe(self, path: str) -> Description | None:
        """Return what a service says of a file now. Returns None if the file does not exist.

        Raises DeniedError if it may not be read.
        """
        with _speaking(self.url):
            self.system.invalidate_cache()
            try:
                info = self.system.info(f"{self.root}/{path}")
            except FileNotFoundError as error:
                status = getattr(error.__cause__, "status", None)
                if self.protocols & READ_ONLY and status in _DENIED:
                    raise PermissionError(f"{path}: the server answers {status}") from error
                self._check_missing(error)
                return None
        if info["type"] != "file":
            return None
        return Description(info["size"], info.get("ETag"), info.get("url", ""))

    def fetch(self, path: str, target: Path, size: int) -> None:
        """Download a file of ``size`` bytes, from where a download that broke off has left it.

        Whether the bytes are right is for the caller to check. Raises IntegrityError if the file is
        missing although a manifest lists it.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        start = 0
        if target.is_file():
            start = target.stat().st_size
            if start == size:
                return
        if start > size:
            start = 0
        full = f"{self.root}/{path}"
        from_web = bool(self.protocols & READ_ONLY)
        with _speaking(self.url):
            try:
                if (from_web and not start) or not self._append(full, target, start, size):
                    self.system.get_file(full, str(target), callback=_Limit(path, size))
            except FileNotFoundError as error:
                self._check_missing(error)
                raise IntegrityError(f"{self.url}: {path} is missing on the remote") from None

    def _append(self, full: str, target: Path, start: int, size: int) -> bool:
        """Download a file from a place on; return False if it can only be read from its start.

        In order, so that what a kill leaves is the file's beginning: s3fs, gcsfs and adlfs download
        parts at once, into a file that has its full size before they are there.
        """
        mode = "ab" if start else "wb"
        with self.system.open(full, "rb") as source, target.open(mode) as destination:
            try:
                source.seek(start)
                rest = size - start
                while rest >= 0 and (part := source.read(min(_CHUNK, rest + 1))):
                    destination.write(part)
                    rest -= len(part)
            except ValueError:  # a web server without ranges, which some say only when asked
                return False
        return True

    def write(self, path: str, data: bytes) -> None:
        """Write a small file atomically: buckets do so by themselves, a local file is renamed."""
        self.make_folder(path)
        final = f"{self.root}/{path}"
        with _speaking(self.url):
            if not self.on_disk:
                self.system.pipe_file(final, data)
                return
            with self._replacing(path) as fresh:
                self.system.pipe_file(str(fresh), data)

    @contextmanager
    def _replacing(self, path: str) -> Iterator[Path]:
        """Yield where to write what a file on this disk is replaced by, in one step, at the end.

        Not in the file's folder: a process that is killed leaves it behind, and an artifact with a
        file that its manifest does not list is damaged. What was left behind long ago goes.
        """
        for leftover in disk.temporaries(Path(self.root)):
            with suppress(FileNotFoundError, PermissionError):  # in use, removed, or another's
                if time.time() - leftover.stat().st_mtime > _LONG:
                    leftover.unlink()
        final = Path(self.root, path)
        fresh = disk.temporary(Path(self.root, final.name))
        try:
            yield fresh
            disk.seal(fresh)
            fresh.replace(final)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        disk.sync(final.parent)

    def make_folder(self, path: str) -> None:
        """Create the folder of a file, except in a bucket, which has no folders."""
        if not self.protocols & BUCKETS:
            with _speaking(self.url):
                parent = f"{self.root}/{path}".rsplit("/", 1)[0]
                self.system.makedirs(parent, exist_ok=True)

    def put(self, source: Path, path: str) -> None:
        """Send a file; one that is there is replaced in one step.

        Another process may have published the artifact since the caller looked, and a tag may point
        at it: a file that is there must stay whole, wherever this one is stopped.
        """
        self.make_folder(path)
        final = f"{self.root}/{path}"
        with _speaking(self.url):
            if self.on_disk:
                with self._replacing(path) as fresh:
                    self.system.put_file(str(source), str(fresh))
            elif self.protocols & swap.S3 and source.stat().st_size < 2 * _PART:
                # S3 checks this hash and keeps it; of a file in parts it could not tell it.
                self.system.put_file(
                    str(source), final, chunksize=_PART, ChecksumAlgorithm="SHA256"
                )
            else:
                self.system.put_file(str(source), final)

    def sha256(self, path: str) -> str | None:
        """Return the sha256 of a file's bytes there, in hex. Returns None if it does not exist.

        S3 tells the one that it checked when the file came; otherwise the file is read, in chunks.
        """
        full = f"{self.root}/{path}"
        with _speaking(self.url):
            try:
                if self.protocols & swap.S3:
                    bucket, _, key = full.partition("/")
                    head = self.system.call_s3(
                        "head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED"
                    )
                    checksum = head.get("ChecksumSHA256", "")
                    if checksum and head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
                        return base64.b64decode(checksum).hex()
                with self.system.open(full, "rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()
            except FileNotFoundError:
                return None

    def look(self, path: str) -> swap.Seen:
        """Return a file's bytes and version, for ``swap``."""
        with _speaking(self.url):
            return swap.read(self.system, f"{self.root}/{path}")

    def swap(self, path: str, data: bytes, seen: swap.Seen) -> bool:
        """Write a file if it is still as it was seen; return False if it is not.

        Raises ProviderError if it is not known whether the bytes arrived.
        """
        with _speaking(self.url):
            try:
                swap.replace(self.system, f"{self.root}/{path}", data, seen)
            except swap.ChangedError:
                return False
            except swap.LostError as error:
                raise ProviderError(
                    f"{self.url}: the connection broke while {path} was written, so it may have "
                    f"moved or not; look there and try again: {_line(error.__cause__)}"
                ) from error
        return True


@contextmanager
def _speaking(url: str) -> Iterator[None]:
    """Turn errors of a remote file system into a RarefyError of one line."""
    try:
        yield
    except RarefyError:
        raise
    except ImportError as error:
        raise ProviderError(f"{url}: {_missing_package(url, error)}") from error
    except FileNotFoundError as error:
        raise RecipeError(f"{url}: no such bucket or folder: {_line(error)}") from error
    except PermissionError as error:
        raise DeniedError(f"{url}: no permission: {_line(error)}") from error
    except Exception as error:
        if disk.is_full(error):
            raise ProviderError(f"{url}: no space left while copying: {_line(error)}") from error
        if isinstance(error, ValueError) and "Protocol not known" in str(error):
            raise RecipeError(f"{url}: {_line(error)}") from error
        raise ProviderError(f"{url}: {type(error).__name__}: {_line(error)}") from error


def _patience() -> dict[str, Any]:
    """Return what lets a download take as long as it goes on; by default the web has 5 minutes."""
    from aiohttp import ClientTimeout

    return {"timeout": ClientTimeout(total=None, sock_connect=30, sock_read=60)}


def _missing_package(url: str, error: ImportError) -> str:
    """Name the package that provides the file system for a URL's protocol."""
    protocol = url.split(":", 1)[0]
    package = known_implementations.get(protocol, {}).get("class", "fsspec").split(".")[0]
    if package == "fsspec":
        return _line(error)
    return f"the protocol {protocol!r} needs another package; run: pip install {package}"


def _line(error: BaseException | None) -> str:
    return next(iter(str(error).strip().splitlines()), "no reason given")
